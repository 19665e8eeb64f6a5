package dev.filbert

/** What the model says of one text, or of one pair of texts. */
public class TextClassifierResult internal constructor(
    /** The categories that the options let through, the best first. */
    @get:JvmName("categories") public val categories: List<Category>,
    /** The model's raw answer, one number a label, whatever the options. The caller owns it. */
    @get:JvmName("logits") public val logits: FloatArray,
    /** How many tokens the model saw, special tokens included. */
    @get:JvmName("tokens") public val tokens: Int,
    /** Whether the text was cut to what the model takes. */
    @get:JvmName("truncated") public val truncated: Boolean,
) {
    /** The categories, such as `[POSITIVE (0.97), NEGATIVE (0.03)]`. */
    override fun toString(): String = categories.toString()
}
