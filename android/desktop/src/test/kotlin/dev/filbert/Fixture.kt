package dev.filbert

import java.io.File
import java.io.FileDescriptor
import java.io.FileInputStream
import java.io.RandomAccessFile
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows

/** What the tests run on. */
internal object Fixture {
    /** `models/tiny-sst2`, converted. */
    val model = File(property("filbert.model"))

    /** 200 texts of every script, a line each; a tab divides a pair. */
    val texts: List<Text> by lazy {
        val lines = File(property("filbert.texts")).readText().removeSuffix("\n").split("\n")
        lines.map { line ->
            val parts = line.split("\t")
            Text(parts[0], parts.getOrNull(1))
        }
    }

    /** What `filbert selftest --texts` prints of them. */
    val fingerprint = property("filbert.fingerprint")

    fun property(name: String): String =
        System.getProperty(name)?.takeIf { it.isNotEmpty() }
            ?: error("$name is not set: run the tests by `cargo xtask jvm`")

    fun open(options: TextClassifierOptions = TextClassifierOptions()) =
        TextClassifier.fromFile(model, options)

    /** A batch that takes many seconds, if nothing ends it. */
    val endless: List<String> by lazy {
        val text = "a gorgeous, witty film that is dull all the same ".repeat(60)
        List(4_000) { text }
    }
}

internal class Text(val first: String, val second: String?) {
    fun classify(classifier: TextClassifier) =
        if (second == null) classifier.classify(first) else classifier.classifyPair(first, second)
}

internal fun TextClassifierResult.bits(): List<Int> = logits.map { it.toRawBits() }

/** FNV-1a, 64 bits, of the logits as little-endian float32. */
internal fun fingerprint(results: List<TextClassifierResult>): String {
    var hash = 0xcbf2_9ce4_8422_2325uL
    for (bits in results.flatMap { it.bits() }) {
        for (shift in 0..24 step 8) {
            hash = (hash xor ((bits ushr shift) and 0xff).toULong()) * 0x0000_0100_0000_01b3uL
        }
    }
    return hash.toString(16).padStart(16, '0')
}

internal fun assertFails(code: ErrorCode, work: () -> Unit): FilbertException {
    val failure = assertThrows(FilbertException::class.java) { work() }
    assertEquals(code, failure.code, failure.message)
    return failure
}

/** The number of an open file's descriptor. */
internal fun FileInputStream.number(): Int =
    FileDescriptor::class.java.getDeclaredField("fd").run {
        isAccessible = true
        getInt(fd)
    }

/** A file that has the model from an offset on, and other bytes around it. */
internal fun writePackage(folder: File, offset: Int): File {
    val file = File(folder, "package-$offset")
    RandomAccessFile(file, "rw").use {
        it.write(ByteArray(offset) { 0x50 })
        it.write(Fixture.model.readBytes())
        it.write(ByteArray(77) { 0x51 })
    }
    return file
}
