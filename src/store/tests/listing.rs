use super::{add, job_id, spec, submission_id};
use crate::domain::job::event::JobEvent;
use crate::domain::job::state::StateKind;
use crate::store::{JobFilter, Store, StoreError};

/// Jobs 1..=12: every second one in another repository, every third one cancelled, every fourth one labelled.
async fn store() -> Store {
    let store = Store::in_memory().unwrap();
    for number in 1..=12 {
        let mut spec = spec(number);
        let crate::domain::job::spec::Work::Publish(publish) = &mut spec.work;
        if number % 2 == 0 {
            publish.repository = "b.example.org".parse().unwrap();
        }
        if number % 4 == 0 {
            spec.labels = [("arch".to_owned(), "x86_64".to_owned()), ("n".to_owned(), number.to_string())].into();
        }
        spec.submitter = if number > 10 { "late".into() } else { "early".into() };
        let events = if number % 3 == 0 { vec![JobEvent::CancelRequested] } else { vec![] };
        add(&store, spec, events).await;
    }
    store
}

async fn page(store: &Store, filter: JobFilter, before: Option<u64>, limit: usize) -> (Vec<u64>, Option<u64>) {
    let (jobs, next) = store.read::<_, StoreError, _>(move |db| db.list(&filter, before, limit)).await.unwrap();
    (jobs.iter().map(|job| job.seq).collect(), next)
}

async fn all(store: &Store, filter: JobFilter) -> Vec<u64> {
    page(store, filter, None, 100).await.0
}

#[tokio::test]
async fn each_filter_restricts_and_together_they_restrict_more() {
    let store = store().await;
    let none = JobFilter::default;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(all(&store, none()).await, (1..=12).rev().collect::<Vec<_>>());
    assert_eq!(all(&store, JobFilter { states: vec![StateKind::Cancelled], ..none() }).await, [12, 9, 6, 3]);
    let both = vec![StateKind::Cancelled, StateKind::Queued];
    assert_eq!(all(&store, JobFilter { states: both, ..none() }).await.len(), 12);
    let repository = Some("b.example.org".parse().unwrap());
    assert_eq!(all(&store, JobFilter { repository: repository.clone(), ..none() }).await, [12, 10, 8, 6, 4, 2]);
    assert_eq!(all(&store, JobFilter { name: Some("job 7".into()), ..none() }).await, [7]);
    assert_eq!(all(&store, JobFilter { submitter: Some("late".into()), ..none() }).await, [12, 11]);
    assert_eq!(all(&store, JobFilter { submission: Some(submission_id(1)), ..none() }).await.len(), 12);
    assert!(all(&store, JobFilter { submission: Some(submission_id(2)), ..none() }).await.is_empty());
    assert_eq!(all(&store, JobFilter { labels: vec![label("arch", "x86_64")], ..none() }).await, [12, 8, 4]);
    let labels = vec![label("arch", "x86_64"), label("n", "8")];
    assert_eq!(all(&store, JobFilter { labels: labels.clone(), ..none() }).await, [8]);
    let states = vec![StateKind::Cancelled];
    assert!(all(&store, JobFilter { labels, states, ..none() }).await.is_empty());
    let hostile = Some("' OR 1=1 --".to_owned());
    assert!(all(&store, JobFilter { name: hostile.clone(), submitter: hostile, ..none() }).await.is_empty());
}

#[tokio::test]
async fn pages_give_every_job_once_also_while_new_ones_come() {
    let store = store().await;
    let (first, next) = page(&store, JobFilter::default(), None, 5).await;
    assert_eq!((first, next), (vec![12, 11, 10, 9, 8], Some(8)));
    add(&store, spec(13), vec![]).await;
    let (second, next) = page(&store, JobFilter::default(), next, 5).await;
    assert_eq!((second, next), (vec![7, 6, 5, 4, 3], Some(3)));
    let (third, next) = page(&store, JobFilter::default(), next, 5).await;
    assert_eq!((third, next), (vec![2, 1], None));
    let (exact, next) = page(&store, JobFilter::default(), Some(6), 5).await;
    assert_eq!((exact.len(), next), (5, None), "a last page that is full is the last all the same");
}

#[tokio::test]
async fn events_of_a_job_and_of_a_submission_are_found_in_their_order() {
    let store = store().await;
    let events = |job: Option<u64>, after: u64, limit: usize| {
        let id = job.map(job_id);
        let store = store.clone();
        async move { store.read::<_, StoreError, _>(move |db| db.events(id, None, after, limit)).await.unwrap() }
    };
    let numbers: Vec<u64> = events(None, 0, 1000).await.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
    assert_eq!(events(None, 14, 1000).await.len(), 2);
    assert_eq!(events(None, 0, 3).await.len(), 3);
    let of_three = events(Some(3), 0, 10).await;
    assert_eq!(of_three.iter().map(|event| event.state).collect::<Vec<_>>(), [StateKind::Queued, StateKind::Cancelled]);
    assert_eq!(events(Some(99), 0, 10).await, []);
}

#[tokio::test]
async fn ready_jobs_come_by_their_rank() {
    let store = Store::in_memory().unwrap();
    for (number, priority) in [(1, 0), (2, 5), (3, -5), (4, 5)] {
        let mut spec = spec(number);
        spec.priority = priority;
        add(&store, spec, vec![]).await;
    }
    let ready = store
        .read::<_, StoreError, _>(|db| db.ready(&"a.example.org".parse().unwrap(), 10, |id| id == job_id(4)))
        .await
        .unwrap();
    assert_eq!(ready.iter().map(|job| job.id).collect::<Vec<_>>(), [2, 1, 3].map(job_id), "4 is damaged");
    let ahead = store.read::<_, StoreError, _>(|db| {
        [1, 2, 3, 4].map(job_id).into_iter().map(|id| db.ahead(id)).collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(ahead.await.unwrap(), [Some(2), Some(0), Some(3), Some(1)].to_vec());
    let first = store.read::<_, StoreError, _>(|db| db.first_ready(&"a.example.org".parse().unwrap())).await.unwrap();
    assert_eq!(first, Some(ready[0].rank));
    assert_eq!(store.read::<_, StoreError, _>(|db| db.as_ready(job_id(2))).await.unwrap().as_ref(), ready.first());
}

#[tokio::test]
async fn a_backoff_is_due_in_time_and_also_after_the_clock_was_set_back() {
    let store = Store::in_memory().unwrap();
    let until = "2026-03-01T12:00:30Z".parse().unwrap();
    let batch = super::batch_id(1);
    let claimed = JobEvent::Claimed { batch, node: "n".into() };
    let events = vec![JobEvent::Offered { batch }, claimed, JobEvent::Busy { until, holder: String::new() }];
    add(&store, spec(1), events).await;
    let due = |at: &str| {
        let (at, store) = (at.parse().unwrap(), store.clone());
        async move { store.read::<_, StoreError, _>(move |db| db.due(at, 600, 10)).await.unwrap().len() }
    };
    assert_eq!(due("2026-03-01T12:00:29Z").await, 0);
    assert_eq!(due("2026-03-01T12:00:30Z").await, 1);
    assert_eq!(due("2026-03-01T11:50:31Z").await, 0);
    assert_eq!(due("2026-03-01T11:50:29Z").await, 1);
}
