package dev.filbert

/**
 * How a [TextClassifier] works and which categories it returns. In Java, use [builder].
 */
public class TextClassifierOptions(
    /** At most so many categories, the best ones; a negative number is all of them. */
    @get:JvmName("maxResults") public val maxResults: Int = -1,
    /** Only categories with at least this score. */
    @get:JvmName("scoreThreshold") public val scoreThreshold: Float = Float.NEGATIVE_INFINITY,
    /** Only these labels; empty for all. Excludes [categoryDenylist]. */
    @get:JvmName("categoryAllowlist") public val categoryAllowlist: List<String> = emptyList(),
    /** All labels but these. Excludes [categoryAllowlist]. */
    @get:JvmName("categoryDenylist") public val categoryDenylist: List<String> = emptyList(),
    /**
     * Threads that work on one call, the caller's included, 1 to 1024. The results do not depend
     * on it. One is best for battery and for many calls at once; two or more shorten the wait for
     * a long text.
     */
    @get:JvmName("threads") public val threads: Int = 1,
    /** What is done with a text that is too long. */
    @get:JvmName("truncation") public val truncation: Truncation = Truncation.LONGEST_FIRST,
) {
    /** Builds [TextClassifierOptions]. */
    public class Builder internal constructor() {
        private var maxResults = -1
        private var scoreThreshold = Float.NEGATIVE_INFINITY
        private var categoryAllowlist = emptyList<String>()
        private var categoryDenylist = emptyList<String>()
        private var threads = 1
        private var truncation = Truncation.LONGEST_FIRST

        /** Sets [TextClassifierOptions.maxResults]. */
        public fun setMaxResults(maxResults: Int): Builder = apply { this.maxResults = maxResults }

        /** Sets [TextClassifierOptions.scoreThreshold]. */
        public fun setScoreThreshold(scoreThreshold: Float): Builder =
            apply { this.scoreThreshold = scoreThreshold }

        /** Sets [TextClassifierOptions.categoryAllowlist]. */
        public fun setCategoryAllowlist(labels: List<String>): Builder =
            apply { categoryAllowlist = labels }

        /** Sets [TextClassifierOptions.categoryDenylist]. */
        public fun setCategoryDenylist(labels: List<String>): Builder =
            apply { categoryDenylist = labels }

        /** Sets [TextClassifierOptions.threads]. */
        public fun setThreads(threads: Int): Builder = apply { this.threads = threads }

        /** Sets [TextClassifierOptions.truncation]. */
        public fun setTruncation(truncation: Truncation): Builder =
            apply { this.truncation = truncation }

        /** The options. */
        public fun build(): TextClassifierOptions =
            TextClassifierOptions(
                maxResults,
                scoreThreshold,
                categoryAllowlist,
                categoryDenylist,
                threads,
                truncation,
            )
    }

    public companion object {
        /** A builder with the default of each option. */
        @JvmStatic
        public fun builder(): Builder = Builder()
    }
}
