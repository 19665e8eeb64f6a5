import Foundation

/// A model in memory: bytes that stay where they are until they are released.
final class ModelBytes: @unchecked Sendable {
    /// What an address must be a multiple of.
    private static let alignment = 4
    /// `Data` as short as this may lie in the value itself, which moves. No model is.
    private static let short = 64

    let bytes: UnsafeRawBufferPointer
    private let lock = NSLock()
    private var free: (() -> Void)?

    /// Keeps the bytes of `data`, or a copy where their address will not do.
    init(_ data: Data) {
        // Longer data lies in an object, which this value shares with the caller's. Whoever
        // changes one of them gets an object of its own first, so the address is good for as long
        // as this value is.
        let kept = data.withUnsafeBytes { $0 }
        if data.count > Self.short, Int(bitPattern: kept.baseAddress) % Self.alignment == 0 {
            bytes = kept
            free = { withExtendedLifetime(data) {} }
        } else {
            let copy = UnsafeMutableRawBufferPointer.allocate(
                byteCount: data.count, alignment: Self.alignment)
            copy.copyBytes(from: data)
            bytes = UnsafeRawBufferPointer(copy)
            free = { copy.deallocate() }
        }
    }

    deinit {
        release()
    }

    /// Gives the memory back. Nobody may use it any more.
    func release() {
        let free = lock.withLock {
            defer { self.free = nil }
            return self.free
        }
        free?()
    }
}
