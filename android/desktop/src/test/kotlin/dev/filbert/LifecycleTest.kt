package dev.filbert

import android.content.res.AssetFileDescriptor
import android.os.ParcelFileDescriptor
import java.io.File
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.TimeUnit
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeoutOrNull
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Tag
import org.junit.jupiter.api.Test
import org.mockito.Mockito.mock
import org.mockito.Mockito.`when`

class LifecycleTest {
    /** Runs a function on many threads at once, and returns what each returned or threw. */
    private fun <T> onThreads(count: Int, work: (Int) -> T): List<Result<T>> {
        val pool = Executors.newFixedThreadPool(count)
        val start = CountDownLatch(1)
        val futures: List<Future<Result<T>>> =
            List(count) { number ->
                pool.submit<Result<T>> {
                    start.await()
                    runCatching { work(number) }
                }
            }
        start.countDown()
        return futures.map { it.get(2, TimeUnit.MINUTES) }.also { pool.shutdown() }
    }

    private fun milliseconds(work: () -> Unit): Long {
        val start = System.nanoTime()
        work()
        return (System.nanoTime() - start) / 1_000_000
    }

    @Test
    fun `a second close does nothing, and a call after it is an exception`() {
        val classifier = Fixture.open()
        val other = Fixture.open()
        classifier.close()
        classifier.close()
        assertFails(ErrorCode.CLOSED) { classifier.classify("dull") }
        assertFails(ErrorCode.CLOSED) { classifier.classifyPair("dull", "dull") }
        assertFails(ErrorCode.CLOSED) { classifier.classifyBatch(listOf("dull")) }
        assertFails(ErrorCode.CLOSED) { classifier.selfTest() }
        assertFails(ErrorCode.CLOSED) { runBlocking { classifier.classifySuspending("dull") } }
        // What was read at open is still there.
        assertEquals(2, classifier.labels.size)
        assertEquals(2, other.classify("dull").logits.size)
        other.close()
    }

    @Test
    fun `numbers that stand for nothing are exceptions`() {
        val cancellation = Native.newCancellation()
        for (number in listOf(0L, -1L, cancellation, Long.MAX_VALUE, Long.MIN_VALUE)) {
            assertFails(ErrorCode.CLOSED) { Native.classify(number, 0, ByteArray(1), null) }
            assertFails(ErrorCode.CLOSED) { Native.describe(number) }
            Native.close(number)
            if (number != cancellation) {
                Native.cancel(number)
                Native.freeCancellation(number)
            }
        }
        Native.freeCancellation(cancellation)
    }

    @Test
    fun `arguments that Kotlin never passes are exceptions too`() {
        val id = Native.openFile(Fixture.model.path.toByteArray(), NUMBERS, NONE, NONE)
        val invalid = { work: () -> Unit -> assertFails(ErrorCode.INVALID_ARGUMENT, work) }
        invalid { Native.classify(id, 0, byteArrayOf(-1), null) }
        invalid { Native.classify(id, 0, ByteArray(3), intArrayOf(4, -1)) }
        invalid { Native.classify(id, 0, ByteArray(3), intArrayOf(1, -5)) }
        assertFails(ErrorCode.CANCELLED) { Native.classify(id, 12345, ByteArray(3), null) }
        val path = Fixture.model.path.toByteArray()
        invalid { Native.openFile(path, IntArray(3), NONE, NONE) }
        invalid { Native.openFile(path, intArrayOf(1, 9, -1, 0), NONE, NONE) }
        invalid { Native.openFile(path, NUMBERS, arrayOf(byteArrayOf(-1)), NONE) }
        invalid { Native.openBytes(path, -1, 3, NUMBERS, NONE, NONE) }
        invalid { Native.openBytes(path, 1, path.size, NUMBERS, NONE, NONE) }
        invalid { Native.openBuffer(ByteBuffer.allocate(9), 0, 9, NUMBERS, NONE, NONE) }
        val direct = ByteBuffer.allocateDirect(9)
        invalid { Native.openBuffer(direct, 1, 9, NUMBERS, NONE, NONE) }
        invalid { Native.openBuffer(direct, -1, 9, NUMBERS, NONE, NONE) }
        invalid { Native.openBuffer(direct, Int.MAX_VALUE, Int.MAX_VALUE, NUMBERS, NONE, NONE) }
        Native.close(id)
    }

    @Test
    fun `a call that runs ends when the classifier is closed`() {
        for (threads in listOf(1, 2)) {
            val classifier = Fixture.open(TextClassifierOptions(threads = threads))
            val running = CountDownLatch(4)
            val pool = Executors.newFixedThreadPool(4)
            val calls =
                List(4) {
                    pool.submit<Throwable?> {
                        running.countDown()
                        runCatching { classifier.classifyBatch(Fixture.endless) }.exceptionOrNull()
                    }
                }
            running.await()
            Thread.sleep(300)
            assertTrue(calls.none { it.isDone }, "the batch is too short for this test")
            classifier.close()
            for (call in calls) {
                val failure = call.get(2, TimeUnit.SECONDS)
                assertEquals(ErrorCode.CLOSED, (failure as FilbertException).code)
            }
            pool.shutdown()
        }
    }

    @Test
    fun `closing races with calls without harm`() {
        repeat(200) {
            val classifier = Fixture.open()
            val outcomes =
                onThreads(4) { number ->
                    if (number == 0) {
                        classifier.close()
                    } else {
                        repeat(20) { classifier.classify("a gorgeous, witty film") }
                    }
                }
            for (failure in outcomes.mapNotNull { it.exceptionOrNull() }) {
                assertEquals(ErrorCode.CLOSED, (failure as FilbertException).code)
            }
        }
    }

    @Test
    fun `16 threads on one classifier have the right answers`() {
        Fixture.open().use { classifier ->
            val outcomes =
                onThreads(16) { number ->
                    // Each in another order.
                    val order = Fixture.texts.indices.map { (it + 13 * number) % Fixture.texts.size }
                    val results = order.associateWith { Fixture.texts[it].classify(classifier) }
                    fingerprint(Fixture.texts.indices.map { results.getValue(it) })
                }
            assertEquals(List(16) { Fixture.fingerprint }, outcomes.map { it.getOrThrow() })
        }
    }

    @Test
    @Tag("speed")
    fun `16 threads do not wait for one another`() {
        Fixture.open().use { classifier ->
            val calls = 8_000
            fun run(threads: Int) =
                milliseconds {
                    onThreads(threads) {
                        repeat(calls / threads) { classifier.classify("dull") }
                    }
                }
            run(16)
            val rounds = List(3) { run(1) to run(16) }
            val alone = rounds.minOf { it.first }
            val together = rounds.minOf { it.second }
            println("$calls calls: $alone ms on one thread, $together ms on 16")
            // On one core as long as alone, on more of them less.
            assertTrue(together < alone * 3 / 2, "$together ms on 16 threads, $alone ms on one")
        }
    }

    @Test
    fun `suspending functions give the same results`() = runBlocking<Unit> {
        Fixture.open().use { classifier ->
            val texts = Fixture.texts
            val results =
                texts.map {
                    async {
                        if (it.second == null) {
                            classifier.classifySuspending(it.first)
                        } else {
                            classifier.classifyPairSuspending(it.first, it.second)
                        }
                    }
                }
            assertEquals(Fixture.fingerprint, fingerprint(results.awaitAll()))
            val singles = texts.map { it.first }
            assertEquals(
                classifier.classifyBatch(singles).map { it.bits() },
                classifier.classifyBatchSuspending(singles).map { it.bits() },
            )
            val pairs = texts.map { it.first to "😀" }
            assertEquals(
                classifier.classifyPairBatch(pairs).map { it.bits() },
                classifier.classifyPairBatchSuspending(pairs).map { it.bits() },
            )
            assertFails(ErrorCode.CLOSED) {
                classifier.close()
                runBlocking { classifier.classifySuspending("dull") }
            }
        }
    }

    @Test
    fun `a coroutine that is cancelled ends its call`() = runBlocking<Unit> {
        Fixture.open().use { classifier ->
            val job =
                async(Dispatchers.Default, CoroutineStart.DEFAULT) {
                    classifier.classifyBatchSuspending(Fixture.endless)
                }
            delay(300)
            assertFalse(job.isCompleted, "the batch is too short for this test")
            val start = System.nanoTime()
            // Returns when the native call has ended.
            job.cancelAndJoin()
            val milliseconds = (System.nanoTime() - start) / 1_000_000
            assertTrue(milliseconds < 2000, "it took $milliseconds ms")
            assertThrows(CancellationException::class.java) { runBlocking { job.await() } }
            assertNull(withTimeoutOrNull(300) { classifier.classifyBatchSuspending(Fixture.endless) })
            // The classifier is none the worse for it.
            assertEquals(2, classifier.classifySuspending("dull").logits.size)
        }
    }

    @Test
    fun `closing ends a suspended call with an exception of its own`() = runBlocking<Unit> {
        val classifier = Fixture.open()
        val call =
            async(Dispatchers.Default) {
                runCatching { classifier.classifyBatchSuspending(Fixture.endless) }
            }
        delay(300)
        classifier.close()
        val failure = call.await().exceptionOrNull()
        assertEquals(ErrorCode.CLOSED, (failure as FilbertException).code)
    }

    @Test
    @Tag("speed")
    fun `opening, classifying and closing leaves no memory behind`() {
        val cycles = Fixture.property("filbert.cycles").toInt()
        val bytes = Fixture.model.readBytes()
        val direct = ByteBuffer.allocateDirect(bytes.size).put(bytes).flip() as ByteBuffer
        val file = FileInputStream(Fixture.model)
        val mocked = mock(ParcelFileDescriptor::class.java)
        `when`(mocked.fd).thenReturn(file.number())
        val asset = AssetFileDescriptor(mocked, 0, bytes.size.toLong())
        val expected = Fixture.open().use { it.classify("dull").bits() }
        fun cycle(number: Int) {
            val classifier =
                when (number % 16) {
                    0 -> TextClassifier.fromBuffer(direct)
                    1 -> TextClassifier.fromDescriptor(asset)
                    2 -> TextClassifier.fromBuffer(ByteBuffer.wrap(bytes))
                    else -> TextClassifier.fromFile(Fixture.model)
                }
            assertEquals(expected, classifier.classify("dull").bits())
            if (number % 16 == 3) {
                runBlocking { classifier.classifySuspending("dull") }
            }
            classifier.close()
            // What fails is given back too.
            if (number % 16 == 4) {
                assertFails(ErrorCode.CLOSED) { classifier.classify("dull") }
                assertFails(ErrorCode.NOT_A_MODEL) {
                    TextClassifier.fromBuffer(direct.duplicate().position(4) as ByteBuffer)
                }
            }
        }
        val openBefore = File("/proc/self/fd").list()!!.size
        // What the JVM itself needs is there after the first half.
        val sizes =
            List(10) { part ->
                repeat(cycles / 10) { cycle(part * (cycles / 10) + it) }
                residentKilobytes()
            }
        val growth = sizes.last() - sizes[4]
        println("$cycles cycles: $sizes KB after each tenth, $growth KB more in the second half")
        assertTrue(growth < 1024, "resident memory grew by $growth KB: $sizes")
        assertTrue(File("/proc/self/fd").list()!!.size <= openBefore + 4)
        assertTrue(File("/proc/self/maps").readLines().count { "tiny" in it } <= 1)
        file.close()
    }

    private fun residentKilobytes(): Long {
        System.gc()
        val line = File("/proc/self/status").readLines().first { it.startsWith("RssAnon:") }
        return line.filter { it.isDigit() }.toLong()
    }

    private companion object {
        val NUMBERS =
            intArrayOf(1, 0, -1, Float.NEGATIVE_INFINITY.toRawBits())
        val NONE = emptyArray<ByteArray>()
    }
}
