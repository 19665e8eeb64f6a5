package dev.filbert

/**
 * What every function of this library throws, with a [code] for programs and a [message] for
 * people, which says what was expected, what was found and what to do.
 */
public class FilbertException private constructor(
    /** The reason. */
    @get:JvmName("code") public val code: ErrorCode,
    override val message: String,
    cause: Throwable?,
) : RuntimeException(message, cause) {
    // Called by the native library, by name and signature.
    @Suppress("unused")
    internal constructor(number: Int, message: String) : this(ErrorCode.of(number), message, null)

    internal companion object {
        fun io(message: String, cause: Throwable) = FilbertException(ErrorCode.IO, message, cause)
    }
}
