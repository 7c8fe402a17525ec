//! Who gets in where.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};

use super::{Server, TOKEN, request};
use crate::http::access::{Access, COOKIE, TABLE};

/// A route's path with something in place of its parameters.
fn filled(path: &str) -> String {
    let id = "01890000-0000-7000-8000-000000000000";
    let digest = format!("sha256:{}", "0".repeat(64));
    let path = path.replace("{digest}", &digest).replace("{fleet}", "default").replace("{repository}", "a.b");
    path.replace("{*path}", ".cvmfspublished")
        .replace("{file}", "icon.svg")
        .replace("{id}", id)
        .replace("{batch}", id)
        .replace("{job}", id)
}

fn with(method: &Method, path: &str, header: Option<(&str, String)>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(filled(path));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.body(Body::empty()).unwrap()
}

fn cookie(secret: &str) -> Option<(&'static str, String)> {
    Some(("cookie", format!("theme=dark; {COOKIE}={}; x=y", hex::encode(secret))))
}

#[tokio::test]
async fn every_route_demands_what_the_table_says() {
    for anonymous_read in [false, true] {
        let server = Server::with(|state| state.anonymous_read = anonymous_read).await;
        for (method, path, access) in TABLE {
            let is_open = *access == Access::Open || anonymous_read && *access == Access::Read;
            let refused = async |header| server.status(with(method, path, header)).await == StatusCode::UNAUTHORIZED;
            let why = format!("{method} {path} anonymous_read={anonymous_read}");
            let is_login = (method, *path) == (&Method::POST, "/login");
            if !is_login {
                assert_eq!(refused(None).await, !is_open, "{why}");
            }
            for wrong in ["Bearer", "Bearer ", "Bearer wrong", "Basic d3Jvbmc=", TOKEN, &format!("Bearer {TOKEN}x")] {
                if !is_login {
                    assert_eq!(refused(Some(("authorization", wrong.into()))).await, !is_open, "{why} {wrong}");
                    assert_eq!(refused(cookie("wrong")).await, !is_open, "{why}");
                }
            }
            if !is_login {
                assert!(!refused(Some(("authorization", format!("bearer {TOKEN}")))).await, "{why}");
                // A cookie comes with requests that another site's page caused, so it only looks.
                assert_eq!(refused(cookie(TOKEN)).await, !is_open && method != Method::GET, "{why}");
            }
        }
    }
}

#[tokio::test]
async fn every_route_of_the_table_exists() {
    let server = Server::start().await;
    for (method, path, _) in TABLE {
        let status = server.status(with(method, path, Some(("authorization", format!("Bearer {TOKEN}"))))).await;
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        if status == StatusCode::NOT_FOUND {
            let reply = server.raw(request(method.as_str(), &filled(path)).body(Body::empty()).unwrap()).await;
            assert!(!reply.text().contains("no_such_route"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_refusal_says_how_to_get_in() {
    let server = Server::start().await;
    let reply = server.raw(with(&Method::GET, "/api/v1/jobs", None)).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::UNAUTHORIZED, "unauthorized"));
    assert!(reply.headers[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"));
    let page = server.raw(with(&Method::GET, "/", None)).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(page.text().contains("<form") && page.text().contains("action=\"/login\""));
}

#[tokio::test]
async fn the_form_gives_a_cookie_that_opens_the_page() {
    let server = Server::start().await;
    let send = async |secret: &str| {
        let form: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", secret).finish();
        server.raw(Request::post("/login").body(Body::from(form)).unwrap()).await
    };
    let wrong = send("wrong").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(!wrong.headers.contains_key(header::SET_COOKIE));
    let right = send(TOKEN).await;
    assert_eq!((right.status, &right.headers[header::LOCATION]), (StatusCode::SEE_OTHER, &"/".parse().unwrap()));
    let cookie = right.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("Secure"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = server.raw(with(&Method::GET, "/", Some(("cookie", cookie)))).await;
    assert_eq!(page.status, StatusCode::OK);
}

#[tokio::test]
async fn without_a_token_only_foreign_pages_are_kept_out() {
    let server = Server::with(|state| state.token = None).await;
    let path = "/api/v1/jobs/01890000-0000-7000-8000-000000000000/cancel";
    let from = async |origin: Option<&str>| {
        let mut request = Request::post(path).header("host", "localhost:8080");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        server.status(request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(from(None).await, StatusCode::NOT_FOUND);
    assert_eq!(from(Some("http://localhost:8080")).await, StatusCode::NOT_FOUND);
    for foreign in ["http://evil.example", "null", "http://localhost:8081", "http://localhost:8080.evil.example", ""] {
        assert_eq!(from(Some(foreign)).await, StatusCode::FORBIDDEN, "{foreign}");
    }
}

#[test]
fn a_token_is_not_printed() {
    let token = crate::http::Token::new(TOKEN);
    assert_eq!(format!("{token:?}"), "Token(…)");
    assert!(token.is(TOKEN) && !token.is("") && !token.is("a secret"));
}
