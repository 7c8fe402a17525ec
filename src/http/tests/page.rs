//! The page for people.

use axum::http::{StatusCode, header};
use serde_json::json;

use super::worker::Worker;
use super::{Server, job};

const NAME: &str = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>";

#[tokio::test]
async fn hostile_texts_are_only_text() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let mut hostile = job(NAME);
    hostile["submitter"] = json!(NAME);
    hostile["labels"] = json!({"l": NAME});
    hostile["work"]["lease_path"] = json!("/<b>x<");
    server.post("/api/v1/jobs", hostile.clone()).await;
    let held = worker.claim().await;
    worker.log(&held, 0, format!("</pre>{NAME}")).await;
    worker.fail(&held).await;
    for path in ["/", &format!("/jobs/{}", hostile["id"].as_str().unwrap())] {
        let page = server.get(path).await;
        assert_eq!(page.status, StatusCode::OK);
        let text = page.text();
        for bad in ["<script>alert", "<img src=x", "<b>x", "</pre>&lt;/pre><", "\"'&<"] {
            assert!(!text.contains(bad), "{path}: {bad}");
        }
        assert_eq!(text.matches("</pre>").count(), text.matches("<pre").count(), "{path}");
        assert!(text.contains("alert(1)"), "{path} shows the name");
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(
            !text.contains(" style=") && !text.contains(" onclick=") && !text.contains("://"),
            "{path}: nothing inline, nothing from elsewhere"
        );
    }
}

#[tokio::test]
async fn the_index_filters_counts_and_pages() {
    let server = Server::start().await;
    for number in 0..60 {
        let mut job = job(&format!("job-{number:02}"));
        if number % 2 == 0 {
            job["work"]["repository"] = json!("other.example.org");
        }
        server.post("/api/v1/jobs", job).await;
    }
    let rows = |text: &str| text.matches("<th scope=\"row\">").count();
    let page = server.get("/").await.text();
    assert_eq!(rows(&page), 50);
    assert!(page.contains("<span class=\"number\">60</span> all") && page.contains("job-59"));
    let older = page.split("href=\"").find(|link| link.starts_with("/?state=&") && link.contains("cursor=")).unwrap();
    let older = older.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    let page = server.get(&older).await.text();
    assert_eq!(rows(&page), 10);
    assert!(page.contains("job-00") && !page.contains("data-events"), "old pages stay as they are");
    assert_eq!(rows(&server.get("/?repository=other.example.org&state=").await.text()), 30);
    assert_eq!(rows(&server.get("/?state=succeeded&repository=").await.text()), 0);
    assert_eq!(server.get("/?state=nonsense").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_job_that_is_not_there_gets_a_page_that_says_so() {
    let server = Server::start().await;
    let page = server.get("/jobs/01890000-0000-7000-8000-000000000000").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.text().contains("there is no job 01890000"));
}

#[tokio::test]
async fn a_jobs_page_tells_how_it_ended_and_where_its_log_goes_on() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let id = server.submit("one").await;
    let held = worker.claim().await;
    worker.log(&held, 0, b"12345\n\xE2\x82".to_vec()).await;
    let page = server.get(&format!("/jobs/{id}")).await.text();
    assert!(page.contains("data-after=\"1:6\"") && page.contains("staging"), "{page}");
    worker.succeed(&held).await;
    let page = server.get(&format!("/jobs/{id}")).await.text();
    assert!(page.contains("publish permitted") && page.contains("<dt>Revision</dt>"), "{page}");
    for asset in ["conveyor.css", "conveyor.js", "icon.svg"] {
        assert!(page.contains(&format!("/assets/{asset}")));
        assert_eq!(server.get(&format!("/assets/{asset}")).await.status, StatusCode::OK);
    }
}
