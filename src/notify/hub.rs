//! Who is told: for each repository its last message, and those who wait for the next.
//!
//! Nothing is queued. A subscriber that comes late, or comes back from a slow write, finds the last message and no other; so a
//! subscriber costs a few words, and a slow one costs nobody anything.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::domain::names::RepositoryName;
use crate::domain::notification::Announcement;

type Last = Option<Arc<Announcement>>;

/// The last message of each repository, and those who wait for the next.
#[derive(Debug)]
pub struct Hub {
    topics: Mutex<HashMap<RepositoryName, watch::Sender<Last>>>,
    /// The number of the last message of all.
    told: watch::Sender<u64>,
}

impl Hub {
    /// Begins with what was told in an earlier life.
    pub fn new(last: impl IntoIterator<Item = Announcement>) -> Self {
        let hub = Self { topics: Mutex::default(), told: watch::Sender::new(0) };
        for announcement in last {
            hub.tell(Arc::new(announcement));
        }
        hub
    }

    /// Tells all subscribers of a repository, unless they were told a later message.
    pub fn tell(&self, announcement: Arc<Announcement>) {
        let number = announcement.number;
        let is_newer = |last: &Last| last.as_ref().is_none_or(|last| last.number < number);
        {
            let mut topics = self.topics();
            let topic = topics.entry(announcement.message.repository().clone()).or_default();
            topic.send_if_modified(|last| {
                let is_newer = is_newer(last);
                if is_newer {
                    *last = Some(announcement);
                }
                is_newer
            });
        }
        self.told.send_if_modified(|last| {
            let is_newer = *last < number;
            *last = number.max(*last);
            is_newer
        });
    }

    /// The last message of a repository.
    pub fn last(&self, repository: &RepositoryName) -> Option<Arc<Announcement>> {
        self.topics().get(repository)?.borrow().clone()
    }

    /// The number of the last message of all, which rises with each: when it does, [`since`](Self::since) has something.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// The repositories' last messages that have a higher number, in the order of their numbers.
    pub fn since(&self, number: u64) -> Vec<Arc<Announcement>> {
        let mut found: Vec<_> = self
            .topics()
            .values()
            .filter_map(|topic| topic.borrow().as_ref().filter(|last| last.number > number).cloned())
            .collect();
        found.sort_unstable_by_key(|last| last.number);
        found
    }

    /// How many wait for messages, each counted once for each of its repositories.
    pub fn subscribers(&self) -> usize {
        self.topics().values().map(watch::Sender::receiver_count).sum()
    }

    /// The repositories that anybody waits for, or that something is known of.
    pub fn repositories(&self) -> Vec<RepositoryName> {
        let is_used = |topic: &watch::Sender<Last>| topic.receiver_count() > 0 || topic.borrow().is_some();
        self.topics().iter().filter(|(_, topic)| is_used(topic)).map(|(name, _)| name.clone()).collect()
    }

    /// Waits for messages of a repository; its last one is there at once.
    fn listen(&self, repository: &RepositoryName) -> watch::Receiver<Last> {
        let mut topics = self.topics();
        let mut receiver = match topics.get(repository) {
            Some(topic) => topic.subscribe(),
            None => {
                forget_unused(&mut topics);
                topics.entry(repository.clone()).or_default().subscribe()
            }
        };
        receiver.mark_changed();
        receiver
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<RepositoryName, watch::Sender<Last>>> {
        // The map is valid after every single operation.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the repositories that nobody waits for and of which nothing is known: anybody may ask for any name. Looks only when
/// the map would have to grow, so that it costs next to nothing.
fn forget_unused(topics: &mut HashMap<RepositoryName, watch::Sender<Last>>) {
    if topics.len() == topics.capacity() {
        topics.retain(|_, topic| topic.receiver_count() > 0 || topic.borrow().is_some());
    }
}

type Waiting = Pin<Box<dyn Future<Output = Option<watch::Receiver<Last>>> + Send>>;

/// One subscriber's messages: of each of its repositories the last one at once, and from then on each that it is there for.
pub struct Subscription {
    hub: Arc<Hub>,
    repositories: Vec<RepositoryName>,
    waiting: FuturesUnordered<Waiting>,
}

impl Subscription {
    /// Subscribes to nothing yet.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub, repositories: Vec::new(), waiting: FuturesUnordered::new() }
    }

    /// Adds a repository; one that is there already is not added again, and its last message does not come again.
    pub fn add(&mut self, repository: &RepositoryName) {
        if !self.repositories.contains(repository) {
            self.repositories.push(repository.clone());
            self.waiting.push(changed(self.hub.listen(repository)));
        }
    }

    /// To how many repositories.
    pub fn len(&self) -> usize {
        self.repositories.len()
    }

    /// To none.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty()
    }

    /// Waits for the next message; for ever where there are no repositories. May be dropped and asked again.
    pub async fn next(&mut self) -> Arc<Announcement> {
        loop {
            let Some(changed_one) = self.waiting.next().await else { std::future::pending().await };
            // Topics with subscribers are never forgotten.
            let Some(mut receiver) = changed_one else { continue };
            let last = receiver.borrow_and_update().clone();
            self.waiting.push(changed(receiver));
            if let Some(last) = last {
                return last;
            }
        }
    }
}

fn changed(mut receiver: watch::Receiver<Last>) -> Waiting {
    Box::pin(async move { receiver.changed().await.ok().map(|()| receiver) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::notification::{Message, Origin};

    fn name(text: &str) -> RepositoryName {
        RepositoryName::new(text).unwrap()
    }

    fn announcement(repository: &str, number: u64) -> Arc<Announcement> {
        let message = Message::about(name(repository), b"manifest", "now");
        Arc::new(Announcement { number, revision: number * 10, origin: Origin::Posted, message })
    }

    #[tokio::test]
    async fn a_new_subscriber_gets_the_last_message_once() {
        let hub = Arc::new(Hub::new([]));
        hub.tell(announcement("a.example.org", 1));
        hub.tell(announcement("a.example.org", 2));
        let mut subscription = Subscription::new(Arc::clone(&hub));
        subscription.add(&name("a.example.org"));
        subscription.add(&name("a.example.org"));
        assert_eq!(subscription.next().await.number, 2);
        assert!(subscription.next().now_or_never().is_none());
        hub.tell(announcement("a.example.org", 3));
        assert_eq!(subscription.next().await.number, 3);
    }

    #[tokio::test]
    async fn who_is_slow_gets_the_newest_only_and_never_an_older_one() {
        let hub = Arc::new(Hub::new([]));
        let mut subscription = Subscription::new(Arc::clone(&hub));
        subscription.add(&name("a.example.org"));
        subscription.add(&name("b.example.org"));
        assert!(subscription.next().now_or_never().is_none());
        for number in [1, 5, 3] {
            hub.tell(announcement("a.example.org", number));
        }
        hub.tell(announcement("b.example.org", 4));
        let mut got = [subscription.next().await.number, subscription.next().await.number];
        got.sort_unstable();
        assert_eq!(got, [4, 5]);
        assert!(subscription.next().now_or_never().is_none());
        assert_eq!(hub.since(4).iter().map(|last| last.number).collect::<Vec<_>>(), [5]);
        assert_eq!(*hub.told().borrow(), 5);
    }

    #[tokio::test]
    async fn names_that_nobody_waits_for_any_more_are_forgotten() {
        let hub = Arc::new(Hub::new([]));
        hub.tell(announcement("kept.example.org", 1));
        for number in 0..10_000 {
            let mut subscription = Subscription::new(Arc::clone(&hub));
            subscription.add(&name(&format!("r{number}.example.org")));
        }
        assert!(hub.topics().len() < 100, "{}", hub.topics().len());
        assert!(hub.last(&name("kept.example.org")).is_some());
        assert_eq!(hub.subscribers(), 0);
    }
}
