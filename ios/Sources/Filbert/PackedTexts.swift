import CFilbert

/// Many texts in one piece of memory, as the C library takes them.
struct PackedTexts: Sendable {
    private var bytes: [UInt8] = []
    /// Of each text, the place after its last byte.
    private var ends: [Int] = []

    init(_ texts: some Collection<String>) {
        bytes.reserveCapacity(texts.reduce(1) { $0 + $1.utf8.count })
        ends.reserveCapacity(texts.count)
        for text in texts {
            bytes.append(contentsOf: text.utf8)
            ends.append(bytes.count)
        }
        // So that there is an address even if all are empty: null stands for no second text.
        bytes.append(0)
    }

    /// Calls `body` with the texts, which stay where they are until it returns.
    func withTexts<Value>(_ body: (UnsafeBufferPointer<filbert_text>) -> Value) -> Value {
        bytes.withUnsafeBytes { bytes in
            let first = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            var start = 0
            let texts = ends.map { end in
                defer { start = end }
                return filbert_text(data: first.map { $0 + start }, length: end - start)
            }
            return texts.withUnsafeBufferPointer(body)
        }
    }
}

extension String {
    /// Calls `body` with the text's bytes. They are not copied, unless the text comes from
    /// Objective-C and is not stored as UTF-8.
    mutating func withText<Value>(_ body: (filbert_text) -> Value) -> Value {
        withUTF8 { bytes in
            let start = UnsafeRawPointer(bytes.baseAddress)?.assumingMemoryBound(to: CChar.self)
            return body(filbert_text(data: start, length: bytes.count))
        }
    }
}
