//! A value that is told to many: tokio's `watch`, whose waiters are woken in the order in which they came. `watch`
//! spreads them at random over several lists, so that no history with two waiters would repeat itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;

struct Shared<T> {
    value: RwLock<T>,
    version: AtomicU64,
    notify: Notify,
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who changes the value.
pub(crate) struct Teller<T>(Arc<Shared<T>>);

/// Who is told. It hears of each change once, and of several at a time as one.
pub struct Listener<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Teller<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Shared { value: RwLock::new(value), version: AtomicU64::new(0), notify: Notify::new() }))
    }

    /// A listener that has heard of everything so far.
    pub(crate) fn subscribe(&self) -> Listener<T> {
        Listener { shared: Arc::clone(&self.0), seen: self.0.version.load(Ordering::Acquire) }
    }

    pub(crate) fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.0.read()
    }

    pub(crate) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Tells of the change only where `change` says that there is one.
    pub(crate) fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let told = change(&mut value);
        if told {
            // Under the lock: who reads the value finds the version that belongs to it.
            self.0.version.fetch_add(1, Ordering::AcqRel);
        }
        drop(value);
        if told {
            self.0.notify.notify_waiters();
        }
    }
}

impl<T> Listener<T> {
    /// The value now.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.shared.read()
    }

    /// The value now, which counts as heard of.
    pub fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        let value = self.shared.read();
        self.seen = self.shared.version.load(Ordering::Acquire);
        value
    }

    /// Everything so far counts as heard of.
    pub(crate) fn heard(&mut self) {
        self.seen = self.shared.version.load(Ordering::Acquire);
    }

    /// Waits for a change that was not heard of. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let mut notified = std::pin::pin!(self.shared.notify.notified());
            // In the list before the look: a change in between is heard.
            notified.as_mut().enable();
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return;
            }
            notified.await;
        }
    }

    /// Waits until the value is as wanted. Cancel-safe.
    pub(crate) async fn wait_for(&mut self, wanted: impl Fn(&T) -> bool) {
        while !wanted(&self.borrow_and_update()) {
            self.changed().await;
        }
    }
}

impl<T> Clone for Listener<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn each_listener_hears_of_a_change_once_and_of_none_before_it_came() {
        let teller = Teller::new(1);
        teller.send_modify(|value| *value = 2);
        let (mut one, mut other) = (teller.subscribe(), teller.subscribe());
        assert!(one.changed().now_or_never().is_none());
        teller.send_modify(|value| *value += 1);
        teller.send_modify(|value| *value += 1);
        teller.send_if_modified(|_| false);
        one.changed().await;
        assert!(one.changed().now_or_never().is_none());
        assert_eq!(*one.borrow(), 4);
        assert_eq!(*other.borrow_and_update(), 4);
        assert!(other.changed().now_or_never().is_none(), "looked at, so heard of");
        tokio::join!(other.wait_for(|value| *value == 9), async { teller.send_modify(|value| *value = 9) });
    }
}
