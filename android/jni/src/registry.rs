//! Numbers that stand for what Kotlin holds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The last number given out, of all registries: so the number of one is none of another. At a
/// million a second they last for 290,000 years.
static LAST: AtomicI64 = AtomicI64::new(0);

/// What is open, by number. A number is never used again.
pub(crate) struct Registry<T>(RwLock<BTreeMap<i64, Arc<T>>>);

impl<T> Registry<T> {
    pub(crate) const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    /// Keeps a value and returns its number, which is not 0.
    pub(crate) fn insert(&self, value: T) -> i64 {
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(id, Arc::new(value));
        id
    }

    /// The value, which stays as long as the caller keeps it, whoever removes it meanwhile.
    pub(crate) fn get(&self, id: i64) -> Option<Arc<T>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&id).cloned()
    }

    /// Forgets a value and returns it, if it is there. It is dropped outside the lock.
    pub(crate) fn remove(&self, id: i64) -> Option<Arc<T>> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_one_value_and_never_used_again() {
        let (texts, numbers) = (Registry::new(), Registry::new());
        let first = texts.insert("a");
        let second = texts.insert("b");
        let other = numbers.insert(3);
        assert!(first != second && second != other && first != 0);
        let held = texts.get(first).unwrap();
        assert_eq!(texts.remove(first).as_deref(), Some(&"a"));
        assert_eq!(*held, "a");
        assert!(texts.get(first).is_none() && texts.remove(first).is_none());
        assert!(texts.get(other).is_none() && texts.get(0).is_none());
        assert!(texts.insert("c") > other);
        assert_eq!(texts.get(second).as_deref(), Some(&"b"));
    }
}
