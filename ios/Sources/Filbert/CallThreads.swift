import Foundation

/// The threads that calls with `await` work on: as many as the CPU has cores, made when they are
/// needed, and gone after some seconds without work.
///
/// Neither Swift's threads nor those of a dispatch queue would do: both are as few as the cores,
/// and calls that hold them all keep every other task waiting.
final class CallThreads: @unchecked Sendable {
    /// Is called once: with `true` on one of the threads, or with `false`, wherever, if the task
    /// was cancelled before its turn came.
    typealias Job = @Sendable (_ isItsTurn: Bool) -> Void

    static let shared = CallThreads()

    /// After how many seconds without work a thread ends.
    private static let patience = 10.0
    private static let most = ProcessInfo.processInfo.activeProcessorCount

    /// Guards what follows; signalled for each job that waits.
    private let condition = NSCondition()
    private var waiting: [(cancellation: Cancellation, job: Job)] = []
    private var threads = 0
    private var idle = 0

    /// Runs a job of the current task on one of the threads, in the order of the calls.
    func run(_ cancellation: Cancellation, _ job: @escaping Job) {
        let isCancelled = condition.withLock {
            // A task is marked as cancelled before its handler calls `cancel`: either that finds
            // the job, or this finds the mark.
            if Task.isCancelled { return true }
            waiting.append((cancellation, job))
            if waiting.count > idle, threads < Self.most {
                threads += 1
                let thread = Thread { self.work() }
                thread.name = "Filbert"
                thread.qualityOfService = .userInitiated
                thread.stackSize = 2 << 20
                thread.start()
            } else {
                condition.signal()
            }
            return false
        }
        if isCancelled { job(false) }
    }

    /// Ends the call that was given this cancellation, whether it runs or waits.
    func cancel(_ cancellation: Cancellation) {
        cancellation.cancel()
        let job = condition.withLock { () -> Job? in
            let place = waiting.firstIndex { $0.cancellation === cancellation }
            return place.map { waiting.remove(at: $0).job }
        }
        job?(false)
    }

    private func work() {
        while let job = next() {
            job(true)
        }
    }

    /// The next job, or nothing if the thread is to end.
    private func next() -> Job? {
        condition.withLock {
            let end = Date(timeIntervalSinceNow: Self.patience)
            idle += 1
            while waiting.isEmpty, condition.wait(until: end) {}
            idle -= 1
            if waiting.isEmpty {
                threads -= 1
                return nil
            }
            return waiting.removeFirst().job
        }
    }
}
