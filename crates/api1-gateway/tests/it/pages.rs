//! The dashboard without a browser: what is in each page, what its forms do, and what is refused.

mod access;
mod all_jobs;
mod dead_letters;
mod destination;
mod events;
mod job;
mod jobs;
mod overview;

use reqwest::{RequestBuilder, Response};

use crate::support::{Gateway, header};

/// The HTML of a page, which must be answered with 200 and the headers that every page has.
pub(crate) async fn page(request: RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    secure_html(response).await
}

/// The HTML of an answer, which must have the headers that every page has.
pub(crate) async fn secure_html(response: Response) -> String {
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
    let policy = header(&response, "content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    assert_eq!(header(&response, "cache-control"), "no-store");
    let html = response.text().await.unwrap();
    for inline in ["<script>", " style=", " onclick=", "javascript:"] {
        assert!(!html.contains(inline), "{inline} in\n{html}");
    }
    html
}

/// A form sent from a page of the gateway's own.
pub(crate) fn submit(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = gateway.post(path).header("origin", format!("http://{}", gateway.address));
    request.header("content-type", "application/x-www-form-urlencoded").body(body)
}

/// Where a form's answer leads: 303 to there.
pub(crate) async fn leads_to(request: RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 303, "{}", response.text().await.unwrap());
    header(&response, "location")
}

/// The HTML of a refusal with this status.
pub(crate) async fn refusal(request: RequestBuilder, status: u16) -> String {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
    secure_html(response).await
}
