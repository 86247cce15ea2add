//! As much of JSON Schema as the description uses. A word it does not know is a misfit, so that none is passed over.

use serde_json::Value;

/// Say nothing about a value.
const SILENT: [&str; 7] = ["description", "example", "examples", "title", "format", "default", "pattern"];

/// The first thing about `value` that does not fit `schema`, if there is one.
pub(super) fn misfit(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Value::Object(words) = schema else { return Some(format!("{schema} is no schema")) };
    words.iter().find_map(|(word, says)| {
        let fits = |schema: &Value| misfit(document, schema, value);
        let wrong = |is_wrong: bool| is_wrong.then(|| format!("{value} against {word} {says}"));
        match word.as_str() {
            "$ref" => {
                let pointer = says.as_str().unwrap().trim_start_matches('#');
                fits(document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere")))
            }
            "type" => wrong(!names(says).any(|name| is_a(name, value))),
            "enum" => wrong(!says.as_array().unwrap().contains(value)),
            "oneOf" | "anyOf" => wrong(!says.as_array().unwrap().iter().any(|one| fits(one).is_none())),
            "allOf" => says.as_array().unwrap().iter().find_map(fits),
            "required" => {
                let missing = |name: &str| value.is_object() && value.get(name).is_none();
                wrong(names(says).any(missing))
            }
            "properties" => says.as_object().unwrap().iter().find_map(|(name, schema)| {
                let found = misfit(document, schema, value.get(name)?)?;
                Some(format!("{name}: {found}"))
            }),
            "additionalProperties" if says.is_object() => {
                value.as_object()?.values().find_map(|member| misfit(document, says, member))
            }
            "additionalProperties" => {
                let known = |name: &String| schema["properties"].get(name).is_some();
                wrong(*says == false && value.as_object().is_some_and(|members| !members.keys().all(known)))
            }
            "propertyNames" => None,
            "items" => value.as_array()?.iter().find_map(|item| misfit(document, says, item)),
            "minimum" => wrong(value.as_f64().is_some_and(|number| number < says.as_f64().unwrap())),
            "exclusiveMinimum" => wrong(value.as_f64().is_some_and(|number| number <= says.as_f64().unwrap())),
            "maximum" => wrong(value.as_f64().is_some_and(|number| number > says.as_f64().unwrap())),
            "minLength" => wrong(value.as_str().is_some_and(|text| (text.len() as u64) < says.as_u64().unwrap())),
            "maxLength" => wrong(value.as_str().is_some_and(|text| text.len() as u64 > says.as_u64().unwrap())),
            word if SILENT.contains(&word) => None,
            word => Some(format!("{word} is not known here")),
        }
    })
}

fn names(says: &Value) -> impl Iterator<Item = &str> {
    let many = says.as_array().into_iter().flatten().filter_map(Value::as_str);
    many.chain(says.as_str())
}

fn is_a(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[test]
fn what_does_not_fit_is_found() {
    use serde_json::json;
    let document =
        json!({"a": {"type": "object", "required": ["n"], "properties": {"n": {"type": ["integer", "null"]}}}});
    let schema = json!({"oneOf": [{"type": "array", "items": {"$ref": "#/a"}}, {"enum": ["x"]}]});
    for good in [json!([]), json!([{"n": 1}, {"n": null}]), json!("x")] {
        assert_eq!(misfit(&document, &schema, &good), None, "{good}");
    }
    for bad in [json!([{}]), json!([{"n": "1"}]), json!("y"), json!({}), json!([{"n": 1.5}])] {
        assert!(misfit(&document, &schema, &bad).is_some(), "{bad}");
    }
    assert!(misfit(&document, &json!({"const": 1}), &json!(1)).is_some(), "a word that is not known");
}
