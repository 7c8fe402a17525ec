//! What those see who do not get in, and how a browser does.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};

use super::roles::with;
use super::{Server, TOKEN};

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
