package dev.filbert

/** What is done with a text of more tokens than the model takes. */
public enum class Truncation(internal val number: Int) {
    /** Cut the longer text of a pair, and both once they are equally long. */
    LONGEST_FIRST(0),

    /** Cut the first text only; [ErrorCode.TEXT_TOO_LONG] if none of it would be left. */
    ONLY_FIRST(1),

    /**
     * Cut the second text only; [ErrorCode.TEXT_TOO_LONG] if none of it would be left, or if there
     * is no second text.
     */
    ONLY_SECOND(2),

    /** Cut nothing: [ErrorCode.TEXT_TOO_LONG]. */
    REFUSE(3),
}
