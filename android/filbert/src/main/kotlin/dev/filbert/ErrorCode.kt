package dev.filbert

/** Why a call failed. The numbers are those of Filbert's other interfaces, and frozen. */
public enum class ErrorCode(
    /** The same number as in Rust, C and Swift. */
    @get:JvmName("number") public val number: Int,
) {
    /** The file could not be read. */
    IO(1),

    /** The bytes are not a `.filbert` file. */
    NOT_A_MODEL(2),

    /** The file is a newer version, or needs a feature that this library lacks. */
    UNSUPPORTED(3),

    /** The file contradicts itself or the format: it is damaged. */
    MALFORMED(4),

    /** A part of the file does not have the checksum that the file states: it is damaged. */
    CHECKSUM(5),

    /** An option or argument cannot be used, or not with this model. */
    INVALID_ARGUMENT(6),

    /** The text has more tokens than the model takes, and [Truncation] does not let it be cut. */
    TEXT_TOO_LONG(7),

    /** The self-test did not reproduce the logits in the file. */
    SELF_TEST(8),

    /** The call was cancelled. Suspending functions throw `CancellationException` instead. */
    CANCELLED(9),

    /** The classifier is closed, or was before the call was done. */
    CLOSED(10),

    /** A defect of the library: please report it. */
    INTERNAL(1000),
    ;

    internal companion object {
        fun of(number: Int): ErrorCode = entries.firstOrNull { it.number == number } ?: INTERNAL
    }
}
