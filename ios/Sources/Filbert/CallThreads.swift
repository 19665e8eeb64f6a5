import Foundation

/// The threads that calls with `await` work on: as many as the CPU has cores, made when they are
/// needed, and gone after some seconds without work.
///
/// Neither Swift's threads nor those of a dispatch queue would do: both are as few as the cores,
/// and calls that hold them all keep every other task waiting.
final class CallThreads: @unchecked Sendable {
    static let shared = CallThreads()

    /// After how many seconds without work a thread ends.
    private static let patience = 10.0
    private static let most = ProcessInfo.processInfo.activeProcessorCount

    /// Guards what follows; signalled for each job that waits.
    private let condition = NSCondition()
    private var jobs: [@Sendable () -> Void] = []
    private var threads = 0
    private var idle = 0

    /// Runs a job on one of the threads, in the order of the calls.
    func run(_ job: @escaping @Sendable () -> Void) {
        condition.withLock {
            jobs.append(job)
            if jobs.count > idle, threads < Self.most {
                threads += 1
                let thread = Thread { self.work() }
                thread.name = "Filbert"
                thread.qualityOfService = .userInitiated
                thread.stackSize = 2 << 20
                thread.start()
            } else {
                condition.signal()
            }
        }
    }

    private func work() {
        while let job = next() {
            job()
        }
    }

    /// The next job, or nothing if the thread is to end.
    private func next() -> (@Sendable () -> Void)? {
        condition.withLock {
            let end = Date(timeIntervalSinceNow: Self.patience)
            idle += 1
            while jobs.isEmpty, condition.wait(until: end) {}
            idle -= 1
            if jobs.isEmpty {
                threads -= 1
                return nil
            }
            return jobs.removeFirst()
        }
    }
}
