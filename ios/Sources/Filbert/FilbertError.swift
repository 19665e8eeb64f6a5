import CFilbert
import Foundation

/// Why a call failed: a code for the program, a sentence for people.
public struct FilbertError: Error, Hashable, Sendable {
    /// What kind of failure it is.
    public let code: Code
    /// A sentence that names the file or argument, and says what was expected and what to do. It is
    /// meant for a log, in English.
    public let message: String

    /// A kind of failure. Its number is the same in every version and every language; a newer
    /// library may have codes that are not named here.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: UInt32

        public init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        private init(_ number: Int32) {
            rawValue = UInt32(number)
        }

        /// The file could not be read.
        public static let io = Code(FILBERT_ERROR_IO)
        /// The bytes are not a `.filbert` file.
        public static let notAModel = Code(FILBERT_ERROR_NOT_A_MODEL)
        /// The file needs what this version of the library does not have: update the app.
        public static let unsupported = Code(FILBERT_ERROR_UNSUPPORTED)
        /// The file contradicts itself or the format: it is damaged.
        public static let malformed = Code(FILBERT_ERROR_MALFORMED)
        /// A section of the file does not have its checksum: it is damaged.
        public static let checksum = Code(FILBERT_ERROR_CHECKSUM)
        /// An option or argument cannot be used: a defect of the program.
        public static let invalidArgument = Code(FILBERT_ERROR_INVALID_ARGUMENT)
        /// The text has more tokens than the model takes, and ``Truncation/refuse`` was chosen.
        public static let textTooLong = Code(FILBERT_ERROR_TEXT_TOO_LONG)
        /// This device did not compute the logits that the file holds.
        public static let selfTest = Code(FILBERT_ERROR_SELF_TEST)
        /// The task that called was cancelled.
        public static let cancelled = Code(FILBERT_ERROR_CANCELLED)
        /// The classifier is closed, or was before the call was done.
        public static let closed = Code(FILBERT_ERROR_CLOSED)
        /// A defect of the library. The classifier can still be used.
        public static let `internal` = Code(FILBERT_ERROR_INTERNAL)
    }

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Throws the error that a function of the C library returned, if it is one, and frees it.
    static func check(_ error: OpaquePointer?) throws(FilbertError) {
        guard let error else { return }
        var length = 0
        let message = filbert_error_message(error, &length)
        let result = FilbertError(
            Code(rawValue: filbert_error_code(error)), String(utf8: message, count: length))
        filbert_error_free(error)
        throw result
    }
}

extension FilbertError: LocalizedError, CustomStringConvertible {
    public var errorDescription: String? { message }

    public var description: String { "\(message) (Filbert error \(code.rawValue))" }
}

extension String {
    /// Text of the C library, by its first byte and its length.
    init(utf8 start: UnsafePointer<CChar>?, count: Int) {
        self.init(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
}
