package dev.filbert

/** One label of the model, and how well it fits. */
public class Category internal constructor(
    /** The label's place among [TextClassifier.labels]. */
    @get:JvmName("index") public val index: Int,
    /** The label's name. */
    @get:JvmName("categoryName") public val categoryName: String,
    /** A probability, 0 to 1; of a regression model, the logit. */
    @get:JvmName("score") public val score: Float,
) {
    /** Whether index, name and score are the same. */
    override fun equals(other: Any?): Boolean =
        other is Category &&
            index == other.index &&
            categoryName == other.categoryName &&
            score.toRawBits() == other.score.toRawBits()

    override fun hashCode(): Int = 31 * index + score.toRawBits()

    /** Such as `POSITIVE (0.97)`. */
    override fun toString(): String = "$categoryName ($score)"
}
