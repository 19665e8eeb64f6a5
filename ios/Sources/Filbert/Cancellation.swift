import CFilbert

/// Ends a call from another thread.
final class Cancellation: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer?

    init() {
        handle = filbert_cancellation_new()
    }

    deinit {
        filbert_cancellation_free(handle)
    }

    func cancel() {
        filbert_cancellation_cancel(handle)
    }
}
