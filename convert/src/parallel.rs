//! Work on all cores whose results do not depend on how many there are.

use std::sync::Mutex;
use std::thread;

/// The results of all items, in their order.
pub(crate) fn map_in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    map: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let threads = thread::available_parallelism()
        .map_or(1, Into::into)
        .min(items.len());
    let count = items.len();
    let items = Mutex::new(items.into_iter().enumerate());
    let results = Mutex::new(Vec::with_capacity(count));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // The lock is held for no longer than the item is taken.
                    let next = items.lock().expect("no thread panicked with it").next();
                    let Some((index, item)) = next else { break };
                    let result = map(item);
                    results
                        .lock()
                        .expect("no thread panicked with it")
                        .push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panicked with it");
    results.sort_by_key(|&(index, _)| index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let doubled = map_in_parallel((0..100).collect(), |i: i32| 2 * i);
        assert!(doubled.into_iter().eq((0..100).map(|i| 2 * i)));
        assert!(map_in_parallel(Vec::<u8>::new(), |i| i).is_empty());
    }
}
