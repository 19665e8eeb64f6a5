package dev.filbert

import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class ClassifyTest {
    private val classifier = Fixture.open()

    @AfterEach
    fun close() = classifier.close()

    @Test
    fun `labels, kernels, version and the self-test are there`() {
        assertEquals(listOf("NEGATIVE", "POSITIVE"), classifier.labels)
        assertTrue(classifier.kernelSet.isNotEmpty())
        assertTrue(Regex("""\d+\.\d+\.\d+""").matches(TextClassifier.version))
        assertTrue(classifier.selfTest() > 0)
    }

    @Test
    fun `200 texts of every script have the bits of Rust`() {
        assertEquals(200, Fixture.texts.size)
        val results = Fixture.texts.map { it.classify(classifier) }
        assertEquals(Fixture.fingerprint, fingerprint(results))
    }

    @Test
    fun `a batch has the bits of each text alone, on any number of threads`() {
        val pairs = Fixture.texts.filter { it.second != null }.map { it.first to it.second!! }
        val singles = Fixture.texts.map { it.first }
        val alone = singles.map { classifier.classify(it).bits() }
        val pairsAlone = pairs.map { (a, b) -> classifier.classifyPair(a, b).bits() }
        for (threads in listOf(1, 2, 3)) {
            Fixture.open(TextClassifierOptions(threads = threads)).use { other ->
                assertEquals(alone, other.classifyBatch(singles).map { it.bits() })
                assertEquals(pairsAlone, other.classifyPairBatch(pairs).map { it.bits() })
            }
        }
        assertEquals(emptyList<Any>(), classifier.classifyBatch(emptyList()))
    }

    @Test
    fun `the second text of a pair counts`() {
        val pair = classifier.classifyPair("dull", "a gorgeous film")
        assertFalse(pair.bits() == classifier.classifyPair("dull", "dull").bits())
        // An empty second text is a pair too: one more [SEP].
        assertEquals(
            classifier.classify("dull").tokens + 1,
            classifier.classifyPair("dull", "").tokens,
        )
    }

    @Test
    fun `categories are the labels, best first, with scores that add up`() {
        val result = classifier.classify("a gorgeous, witty film")
        assertEquals(listOf("POSITIVE", "NEGATIVE"), result.categories.map { it.categoryName })
        assertEquals(listOf(1, 0), result.categories.map { it.index })
        assertTrue(result.categories[0].score > 0.9f)
        assertEquals(1.0f, result.categories.map { it.score }.sum(), 1e-5f)
        assertTrue(result.logits[1] > result.logits[0])
        assertFalse(result.truncated)
        assertTrue(result.toString().startsWith("[POSITIVE (0.9"))
        assertEquals(result.categories, classifier.classify("a gorgeous, witty film").categories)
    }

    @Test
    fun `options choose the categories and leave the logits alone`() {
        val text = "a gorgeous, witty film"
        val logits = classifier.classify(text).bits()
        fun names(options: TextClassifierOptions) =
            Fixture.open(options).use { other ->
                val result = other.classify(text)
                assertEquals(logits, result.bits())
                result.categories.map { it.categoryName }
            }
        assertEquals(listOf("POSITIVE"), names(TextClassifierOptions(maxResults = 1)))
        assertEquals(listOf("POSITIVE"), names(TextClassifierOptions(scoreThreshold = 0.5f)))
        assertEquals(
            listOf("NEGATIVE"),
            names(TextClassifierOptions(categoryAllowlist = listOf("NEGATIVE"))),
        )
        assertEquals(
            listOf("NEGATIVE"),
            names(TextClassifierOptions(categoryDenylist = listOf("POSITIVE"))),
        )
        assertEquals(
            emptyList<String>(),
            names(TextClassifierOptions(scoreThreshold = 1.5f)),
        )
    }

    @Test
    fun `options that cannot be served are refused`() {
        for (options in
            listOf(
                TextClassifierOptions(maxResults = 0),
                TextClassifierOptions(threads = 0),
                TextClassifierOptions(threads = -1),
                TextClassifierOptions(threads = 100_000),
                TextClassifierOptions(scoreThreshold = Float.NaN),
                TextClassifierOptions(categoryAllowlist = listOf("no such label")),
                TextClassifierOptions(
                    categoryAllowlist = listOf("NEGATIVE"),
                    categoryDenylist = listOf("POSITIVE"),
                ),
            )) {
            assertFails(ErrorCode.INVALID_ARGUMENT) { Fixture.open(options).close() }
        }
        // The message is Unicode too.
        val label = "喜び😀\u0000"
        val options = TextClassifierOptions(categoryDenylist = listOf(label))
        val failure = assertFails(ErrorCode.INVALID_ARGUMENT) { Fixture.open(options).close() }
        assertTrue(failure.message.contains("喜び😀"), failure.message)
    }

    @Test
    fun `lone surrogates are question marks`() {
        for (text in listOf("\uD800", "a\uD83D b", "\uDE00\uD83D", "x\uDFFF")) {
            val expected = text.map { if (it.isSurrogate()) '?' else it }.joinToString("")
            assertEquals(classifier.classify(expected).bits(), classifier.classify(text).bits())
        }
        // And a pair of them is one character.
        assertFalse(classifier.classify("😀").bits() == classifier.classify("??").bits())
    }

    @Test
    fun `a text does not end at NUL`() {
        val whole = classifier.classify("dull\u0000 and gorgeous")
        assertEquals(classifier.classify("dull and gorgeous").bits(), whole.bits())
        assertTrue(whole.tokens > classifier.classify("dull").tokens)
        assertEquals(classifier.classify("").bits(), classifier.classify("\u0000").bits())
    }

    @Test
    fun `an empty text has an answer`() {
        val result = classifier.classify("")
        assertEquals(2, result.tokens)
        assertTrue(result.logits.all { it.isFinite() })
    }

    @Test
    fun `a text of a megabyte is cut, or refused`() {
        val text = "witty 😀 ".repeat(100_000)
        assertTrue(text.toByteArray().size > 1_000_000)
        val result = classifier.classify(text)
        assertTrue(result.truncated)
        assertEquals(classifier.classify(text.take(50_000)).bits(), result.bits())
        val word = classifier.classify("x".repeat(1 shl 20))
        assertEquals(3, word.tokens)
        Fixture.open(TextClassifierOptions(truncation = Truncation.REFUSE)).use { strict ->
            assertFails(ErrorCode.TEXT_TOO_LONG) { strict.classify(text) }
            assertFails(ErrorCode.TEXT_TOO_LONG) { strict.classifyBatch(listOf("dull", text)) }
            assertFalse(strict.classify("dull").truncated)
        }
        Fixture.open(TextClassifierOptions(truncation = Truncation.ONLY_SECOND)).use { second ->
            assertTrue(second.classifyPair("dull", text).truncated)
            assertFails(ErrorCode.TEXT_TOO_LONG) { second.classifyPair(text, "dull") }
        }
        Fixture.open(TextClassifierOptions(truncation = Truncation.ONLY_FIRST)).use { first ->
            assertTrue(first.classifyPair(text, "dull").truncated)
            assertFails(ErrorCode.TEXT_TOO_LONG) { first.classifyPair("dull", text) }
        }
    }
}
