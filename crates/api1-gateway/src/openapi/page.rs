//! `GET /docs`: the API's description as one page for people, made from the same document. No script, nothing from elsewhere.

use std::fmt::Write;
use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use serde_json::{Map, Value};

use super::DOCUMENT;

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let mut page = String::new();
    write_page(&mut page, &DOCUMENT).expect("writing to a String cannot fail");
    page
});

pub(crate) async fn docs() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'self'; frame-ancestors 'none'"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(PAGE.as_str())
}

pub(crate) async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/css; charset=utf-8"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(include_str!("docs.css"))
}

/// Operations of one tag, in the order of their paths.
type Operations<'a> = Vec<(&'a str, &'a str, &'a Value)>;

fn write_page(out: &mut String, document: &Value) -> std::fmt::Result {
    let title = text(&document["info"]["title"]);
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title} API</title>\
         <link rel=\"stylesheet\" href=\"/docs/style.css\"></head>\n<body>"
    )?;
    let tags: Vec<&Value> = document["tags"].as_array().into_iter().flatten().collect();
    writeln!(out, "<nav aria-label=\"Contents\"><h1>{title} API</h1>")?;
    for tag in &tags {
        writeln!(out, "<h2>{}</h2><ul>", text(&tag["name"]))?;
        for (path, method, operation) in operations(document, &tag["name"]) {
            let (anchor, summary) = (anchor(path, method), text(&operation["summary"]));
            writeln!(out, "<li><a href=\"#{anchor}\">{summary}</a></li>")?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "<h2>Data</h2><ul>")?;
    for name in members(&document["components"]["schemas"]).map(|(name, _)| escape(name)) {
        writeln!(out, "<li><a href=\"#{name}\">{name}</a></li>")?;
    }
    let description = marked(&document["info"]["description"]);
    writeln!(
        out,
        "</ul></nav>\n<main><p>{description} Machine-readable: <a href=\"/openapi.json\">openapi.json</a>. \
         Codes of problems: <a href=\"/problems\">problems</a>.</p>"
    )?;
    for tag in &tags {
        writeln!(out, "<h2>{}</h2><p>{}</p>", text(&tag["name"]), marked(&tag["description"]))?;
        for (path, method, operation) in operations(document, &tag["name"]) {
            write_operation(out, path, method, operation)?;
        }
    }
    writeln!(out, "<h2>Data</h2>")?;
    for (name, schema) in members(&document["components"]["schemas"]) {
        write_schema(out, name, schema)?;
    }
    writeln!(out, "</main></body></html>")
}

fn write_operation(out: &mut String, path: &str, method: &str, operation: &Value) -> std::fmt::Result {
    let anchor = anchor(path, method);
    writeln!(out, "<section id=\"{anchor}\"><h3>{}</h3>", text(&operation["summary"]))?;
    writeln!(out, "<p class=\"call\"><b>{}</b> <code>{}</code></p>", method.to_uppercase(), escape(path))?;
    if operation["description"].is_string() {
        writeln!(out, "<p>{}</p>", marked(&operation["description"]))?;
    }
    let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
    let body = &operation["requestBody"];
    if !parameters.is_empty() || body.is_object() {
        writeln!(out, "<table><caption>Takes</caption>{HEAD}")?;
        for parameter in parameters {
            let place = text(&parameter["in"]);
            row(
                out,
                &text(&parameter["name"]),
                &kind(&parameter["schema"]),
                &place,
                &marked(&parameter["description"]),
            )?;
        }
        if let Some((media, content)) = members(&body["content"]).next() {
            row(out, &escape(media), &kind(&content["schema"]), "body", &marked(&body["description"]))?;
        }
        writeln!(out, "</table>")?;
    }
    writeln!(out, "<table><caption>Answers</caption><tr><th>status</th><th>type</th><th>meaning</th></tr>")?;
    for (status, response) in members(&operation["responses"]) {
        let content = members(&response["content"]).next().map(|(_, content)| kind(&content["schema"]));
        let (kind, meaning) = (content.unwrap_or_default(), marked(&response["description"]));
        writeln!(out, "<tr><td>{status}</td><td>{kind}</td><td>{meaning}</td></tr>")?;
    }
    writeln!(out, "</table></section>")
}

const HEAD: &str = "<tr><th>name</th><th>type</th><th>where</th><th>meaning</th></tr>";

fn row(out: &mut String, name: &str, kind: &str, place: &str, meaning: &str) -> std::fmt::Result {
    writeln!(out, "<tr><td><code>{name}</code></td><td>{kind}</td><td>{place}</td><td>{meaning}</td></tr>")
}

fn write_schema(out: &mut String, name: &str, schema: &Value) -> std::fmt::Result {
    writeln!(out, "<section id=\"{0}\"><h3>{0}</h3><p>{1}</p>", escape(name), marked(&schema["description"]))?;
    if schema["properties"].is_object() {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        writeln!(out, "<table>{HEAD}")?;
        for (field, shape) in members(&schema["properties"]) {
            let need = if required.contains(&field) { "always" } else { "optional" };
            row(out, &escape(field), &kind(shape), need, &marked(&shape["description"]))?;
        }
        writeln!(out, "</table>")?;
    } else {
        writeln!(out, "<p>{}</p>", kind(schema))?;
    }
    if !schema["example"].is_null() {
        writeln!(out, "<pre>{}</pre>", escape(&format!("{:#}", schema["example"])))?;
    }
    writeln!(out, "</section>")
}

fn operations<'a>(document: &'a Value, tag: &Value) -> Operations<'a> {
    let mut found = Vec::new();
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            if operation["tags"].as_array().is_some_and(|tags| tags.contains(tag)) {
                found.push((path, method, operation));
            }
        }
    }
    found
}

/// A schema in a few words, as HTML, with links to those that have a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("<a href=\"#{0}\">{0}</a>", escape(name));
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[choice].as_array() {
            return choices.iter().map(kind).collect::<Vec<_>>().join(if choice == "allOf" { " and " } else { " or " });
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("<code>{}</code>", text(value))).collect::<Vec<_>>().join(" ");
    }
    let name = match schema["type"].as_array() {
        Some(names) => names.iter().map(text).collect::<Vec<_>>().join(" or "),
        None => text(&schema["type"]),
    };
    if schema["items"].is_object() {
        return format!("{name} of {}", kind(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return format!("{name} of {} by name", kind(&schema["additionalProperties"]));
    }
    match schema["format"].as_str() {
        Some(format) => format!("{name} ({})", escape(format)),
        None if name.is_empty() => "any".to_owned(),
        None => name,
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn anchor(path: &str, method: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("-")
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

/// Text in which back-ticks mark code.
fn marked(value: &Value) -> String {
    let text = text(value);
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_a_description_says_is_text_on_the_page() {
        let operation =
            json!({"tags": ["a"], "summary": "<script>", "description": "say `<b>` & \"go\"", "responses": {}});
        let document = json!({
            "info": {"title": "<i>"}, "tags": [{"name": "a"}], "paths": {"/x/{<u>}": {"get": operation}}, "components": {}
        });
        let mut page = String::new();
        write_page(&mut page, &document).unwrap();
        for foreign in ["<script>", "<i>", "<u>"] {
            assert!(!page.contains(foreign), "{page}");
        }
        assert!(page.contains("say <code>&lt;b&gt;</code> &amp; &quot;go&quot;"), "{page}");
    }
}
