//! How many subscribers each address has, and how much it publishes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::NotifySettings;

/// Addresses whose rate is remembered; beyond it those that have rested are forgotten.
const REMEMBERED: usize = 10_000;

/// All clients that have a place.
#[derive(Debug)]
pub(super) struct Clients {
    most: usize,
    most_per_address: usize,
    publishes_per_s: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: usize,
    subscribers: HashMap<IpAddr, usize>,
    /// What an address may still publish at once, and when that was so.
    rates: HashMap<IpAddr, (f64, Instant)>,
}

/// A subscriber's place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    address: Option<IpAddr>,
}

impl Clients {
    pub(super) fn new(settings: &NotifySettings) -> Self {
        Self {
            most: settings.subscribers,
            most_per_address: settings.subscribers_per_address,
            publishes_per_s: settings.publishes_per_s.into(),
            state: Mutex::default(),
        }
    }

    /// Gives a subscriber its place, or says why there is none.
    pub(super) fn enter(clients: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, String> {
        let mut state = clients.state();
        if state.all >= clients.most {
            return Err(format!("there are {} subscribers, and no more are taken", clients.most));
        }
        if let Some(address) = address {
            let count = state.subscribers.entry(address).or_default();
            if *count >= clients.most_per_address {
                return Err(format!("{address} has {count} subscribers, and no more are taken from one address"));
            }
            *count += 1;
        }
        state.all += 1;
        drop(state);
        Ok(Place { clients: Arc::clone(clients), address })
    }

    /// Whether an address may publish now: as much in a second as is set, and twice that at once.
    pub(super) fn may_publish(&self, address: Option<IpAddr>, now: Instant) -> bool {
        let Some(address) = address else { return true };
        let (rate, burst) = (self.publishes_per_s, self.publishes_per_s * 2.0);
        let refilled = |(left, at): (f64, Instant)| (left + (now - at).as_secs_f64() * rate).min(burst);
        let mut state = self.state();
        if state.rates.len() >= REMEMBERED {
            state.rates.retain(|_, entry| refilled(*entry) < burst);
        }
        let entry = state.rates.entry(address).or_insert((burst, now));
        let left = refilled(*entry);
        let may = left >= 1.0;
        *entry = (if may { left - 1.0 } else { left }, now);
        may
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Valid after every single operation.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.clients.state();
        state.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = state.subscribers.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                state.subscribers.remove(&address);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn clients() -> Arc<Clients> {
        let settings =
            NotifySettings { subscribers: 3, subscribers_per_address: 2, publishes_per_s: 5, ..Default::default() };
        Arc::new(Clients::new(&settings))
    }

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let clients = clients();
        let enter = |address: &str| Clients::enter(&clients, Some(address.parse().unwrap()));
        let (first, second) = (enter("10.0.0.1").unwrap(), enter("10.0.0.1").unwrap());
        assert!(enter("10.0.0.1").unwrap_err().contains("10.0.0.1"));
        let other = enter("10.0.0.2").unwrap();
        assert!(enter("10.0.0.3").unwrap_err().contains("3 subscribers"));
        drop((first, other));
        let again = [enter("10.0.0.1").unwrap(), enter("10.0.0.3").unwrap()];
        drop((second, again));
        let state = clients.state();
        assert_eq!((state.all, state.subscribers.len()), (0, 0));
    }

    #[test]
    fn an_address_publishes_at_its_rate() {
        let (clients, now) = (clients(), Instant::now());
        let address = Some("::1".parse().unwrap());
        let at = |ms| now + Duration::from_millis(ms);
        assert_eq!((0..20).filter(|_| clients.may_publish(address, at(0))).count(), 10);
        assert_eq!((0..20).filter(|_| clients.may_publish(address, at(1000))).count(), 5);
        assert!(clients.may_publish(None, at(1000)) && clients.may_publish(Some("::2".parse().unwrap()), at(1000)));
    }
}
