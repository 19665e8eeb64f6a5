package dev.filbert

import android.content.Context
import android.content.res.AssetFileDescriptor
import android.content.res.AssetManager
import java.io.Closeable
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.suspendCancellableCoroutine
import kotlinx.coroutines.withContext

/**
 * A model ready to classify.
 *
 * ```kotlin
 * TextClassifier.fromAsset(context, "sentiment.filbert").use { classifier ->
 *     val best = classifier.classify("a gorgeous, witty film").categories.first()
 *     println("${best.categoryName} ${best.score}")
 * }
 * ```
 *
 * Open it once and keep it: opening maps the file and checks it, a classifier in use needs the
 * memory of its longest text. It may be used from many threads at once, and [close]d on any thread
 * at any time.
 *
 * `classify` and its like compute on the thread that calls them, for milliseconds or more; on the
 * main thread use the `…Suspending` functions, which compute on `Dispatchers.Default` and stop when
 * their coroutine is cancelled.
 *
 * Texts are any strings. A lone surrogate, which is no character, is read as `?`.
 *
 * All functions throw [FilbertException].
 */
public class TextClassifier private constructor(private val native: Long) : Closeable {
    /** The labels of the model. [Category.index] is a place in this list. */
    @get:JvmName("labels")
    public val labels: List<String>

    /** The kernels in use, such as `dotprod`: they differ in speed, not in results. */
    @get:JvmName("kernelSet")
    public val kernelSet: String

    init {
        val texts =
            try {
                Native.describe(native)
            } catch (failure: Throwable) {
                Native.close(native)
                throw failure
            }
        kernelSet = texts[0]
        labels = texts.drop(1)
    }

    /**
     * Classifies one text.
     *
     * @throws FilbertException [ErrorCode.TEXT_TOO_LONG] if the text has more tokens than the model
     *   takes and [TextClassifierOptions.truncation] does not let it be cut; [ErrorCode.CLOSED] if
     *   the classifier is closed, even during the call.
     */
    public fun classify(text: String): TextClassifierResult =
        read(Native.classify(native, NONE, text.toByteArray(), null)).single()

    /**
     * Classifies a pair of texts, such as a premise and a hypothesis, for models that compare two.
     *
     * @throws FilbertException as [classify].
     */
    public fun classifyPair(first: String, second: String): TextClassifierResult =
        classify(Batch.of(listOf(first to second)), NONE).single()

    /**
     * Classifies many texts, which is faster than one by one. Each has the result that it would
     * have alone, to the bit.
     *
     * @throws FilbertException as [classify]; the first text that fails ends the batch.
     */
    public fun classifyBatch(texts: List<String>): List<TextClassifierResult> =
        classify(Batch.of(texts.map { it to null }), NONE)

    /**
     * Classifies many pairs of texts.
     *
     * @throws FilbertException as [classifyBatch].
     */
    public fun classifyPairBatch(pairs: List<Pair<String, String>>): List<TextClassifierResult> =
        classify(Batch.of(pairs), NONE)

    /**
     * [classify] on `Dispatchers.Default`. If the coroutine is cancelled, the computation ends
     * within the time of one layer of the model.
     */
    @JvmSynthetic
    public suspend fun classifySuspending(text: String): TextClassifierResult =
        suspending { Batch.of(listOf(text to null)) }.single()

    /** [classifyPair] on `Dispatchers.Default`; cancelled as [classifySuspending]. */
    @JvmSynthetic
    public suspend fun classifyPairSuspending(first: String, second: String): TextClassifierResult =
        suspending { Batch.of(listOf(first to second)) }.single()

    /** [classifyBatch] on `Dispatchers.Default`; cancelled as [classifySuspending]. */
    @JvmSynthetic
    public suspend fun classifyBatchSuspending(texts: List<String>): List<TextClassifierResult> =
        suspending { Batch.of(texts.map { it to null }) }

    /** [classifyPairBatch] on `Dispatchers.Default`; cancelled as [classifySuspending]. */
    @JvmSynthetic
    public suspend fun classifyPairBatchSuspending(
        pairs: List<Pair<String, String>>,
    ): List<TextClassifierResult> = suspending { Batch.of(pairs) }

    /**
     * Recomputes the logits of the texts that travel in the model file, compares their bits, and
     * returns how many texts there are. For a device in doubt; it takes some milliseconds.
     *
     * @throws FilbertException [ErrorCode.SELF_TEST] if a bit differs.
     */
    public fun selfTest(): Int = Native.selfTest(native)

    /**
     * Reads the whole model and compares its checksums. For a model that was downloaded, once
     * before its first use: opening checks what the runtime relies on, but not every weight.
     *
     * @throws FilbertException [ErrorCode.CHECKSUM] or [ErrorCode.MALFORMED] if the model is
     *   damaged.
     */
    public fun verify(): Unit = Native.verify(native)

    /**
     * Gives the model's memory back. Calls that run on other threads end at once with
     * [ErrorCode.CLOSED], as do all that come later. A second close does nothing.
     *
     * A classifier that is never closed keeps its model mapped until the app ends.
     */
    override fun close(): Unit = Native.close(native)

    private fun classify(batch: Batch, cancellation: Long): List<TextClassifierResult> =
        read(Native.classify(native, cancellation, batch.utf8, batch.lengths))

    private suspend fun suspending(batch: () -> Batch): List<TextClassifierResult> =
        withContext(Dispatchers.Default) {
            val cancellation = Native.newCancellation()
            try {
                suspendCancellableCoroutine { continuation ->
                    // On the thread that cancels, while this one computes.
                    continuation.invokeOnCancellation { Native.cancel(cancellation) }
                    continuation.resumeWith(runCatching { classify(batch(), cancellation) })
                }
            } finally {
                Native.freeCancellation(cancellation)
            }
        }

    /** Reads what [Native.classify] returns. */
    private fun read(packed: IntArray): List<TextClassifierResult> {
        val results = ArrayList<TextClassifierResult>(packed.size / (3 + labels.size))
        var next = 0
        while (next < packed.size) {
            val tokens = packed[next++]
            val truncated = packed[next++] == 1
            val count = packed[next++]
            val categories = ArrayList<Category>(count)
            repeat(count) {
                val index = packed[next++]
                categories.add(Category(index, labels[index], Float.fromBits(packed[next++])))
            }
            val logits = FloatArray(labels.size) { Float.fromBits(packed[next++]) }
            results.add(TextClassifierResult(categories, logits, tokens, truncated))
        }
        return results
    }

    public companion object {
        private const val NONE = 0L

        /** The version of the native library. */
        @JvmStatic
        @get:JvmName("version")
        public val version: String
            get() = Native.version().single()

        /**
         * Maps a `.filbert` file. It must not change while it is open: replace it by renaming a new
         * one over it.
         *
         * @throws FilbertException [ErrorCode.IO] if the file cannot be read;
         *   [ErrorCode.NOT_A_MODEL], [ErrorCode.UNSUPPORTED], [ErrorCode.MALFORMED] or
         *   [ErrorCode.CHECKSUM] if it is no model that this library reads;
         *   [ErrorCode.INVALID_ARGUMENT] for options that the model or the device cannot serve.
         */
        @JvmStatic
        @JvmOverloads
        public fun fromFile(
            file: File,
            options: TextClassifierOptions = TextClassifierOptions(),
        ): TextClassifier = open(options) { numbers, allowed, denied ->
            Native.openFile(file.path.toByteArray(), numbers, allowed, denied)
        }

        /** As [fromFile], by the file's path. */
        @JvmStatic
        @JvmOverloads
        public fun fromFile(
            path: String,
            options: TextClassifierOptions = TextClassifierOptions(),
        ): TextClassifier = fromFile(File(path), options)

        /**
         * Maps a model in the app's assets where it lies in the package: nothing is unpacked or
         * copied. It must be stored uncompressed; say so in the app's `build.gradle.kts`:
         *
         * ```kotlin
         * android { androidResources { noCompress += "filbert" } }
         * ```
         *
         * @param assetName such as `sentiment.filbert`, relative to the folder of assets.
         * @throws FilbertException as [fromFile]; [ErrorCode.IO] if there is no such asset or it is
         *   compressed; [ErrorCode.INVALID_ARGUMENT] if the package is not aligned to 4 bytes.
         */
        @JvmStatic
        @JvmOverloads
        public fun fromAsset(
            context: Context,
            assetName: String,
            options: TextClassifierOptions = TextClassifierOptions(),
        ): TextClassifier {
            val assets = context.assets
            val descriptor =
                try {
                    assets.openFd(assetName)
                } catch (failure: IOException) {
                    throw FilbertException.io(explain(assets, assetName), failure)
                }
            return descriptor.use { fromDescriptor(it, options) }
        }

        /**
         * Maps a model in a part of a file, such as one of a content provider. The descriptor stays
         * the caller's and may be closed afterwards.
         *
         * @throws FilbertException as [fromFile]; [ErrorCode.INVALID_ARGUMENT] if the part does not
         *   begin at a multiple of 4 bytes or is not in the file.
         */
        @JvmStatic
        @JvmOverloads
        public fun fromDescriptor(
            descriptor: AssetFileDescriptor,
            options: TextClassifierOptions = TextClassifierOptions(),
        ): TextClassifier = open(options) { numbers, allowed, denied ->
            // The lock keeps the object alive: its finalizer would close the descriptor.
            synchronized(descriptor) {
                Native.openDescriptor(
                    descriptor.parcelFileDescriptor.fd,
                    descriptor.startOffset,
                    descriptor.length,
                    numbers,
                    allowed,
                    denied,
                )
            }
        }

        /**
         * Uses the bytes of a buffer from its position to its limit, which stay as they are.
         *
         * A direct buffer, such as a `MappedByteBuffer`, is not copied; its bytes must not change
         * until the classifier is closed. Bytes in the heap are copied, as are those of a direct
         * buffer whose address is not a multiple of 4.
         *
         * @throws FilbertException as [fromFile].
         */
        @JvmStatic
        @JvmOverloads
        public fun fromBuffer(
            buffer: ByteBuffer,
            options: TextClassifierOptions = TextClassifierOptions(),
        ): TextClassifier = open(options) { numbers, allowed, denied ->
            val start = buffer.position()
            val length = buffer.remaining()
            when {
                buffer.isDirect ->
                    Native.openBuffer(buffer, start, length, numbers, allowed, denied)
                buffer.hasArray() -> {
                    val offset = buffer.arrayOffset() + start
                    Native.openBytes(buffer.array(), offset, length, numbers, allowed, denied)
                }
                // In the heap and read-only.
                else -> {
                    val bytes = ByteArray(length)
                    buffer.duplicate().get(bytes)
                    Native.openBytes(bytes, 0, length, numbers, allowed, denied)
                }
            }
        }

        private fun open(
            options: TextClassifierOptions,
            open: (IntArray, Array<ByteArray>, Array<ByteArray>) -> Long,
        ): TextClassifier {
            val numbers =
                intArrayOf(
                    options.threads,
                    options.truncation.number,
                    options.maxResults,
                    options.scoreThreshold.toRawBits(),
                )
            val utf8 = { labels: List<String> ->
                Array(labels.size) { index -> labels[index].toByteArray() }
            }
            return TextClassifier(
                open(numbers, utf8(options.categoryAllowlist), utf8(options.categoryDenylist)),
            )
        }

        /** Why an asset cannot be opened as a part of the package. */
        private fun explain(assets: AssetManager, name: String): String {
            val readable =
                try {
                    assets.open(name).close()
                    true
                } catch (_: IOException) {
                    false
                }
            return if (readable) {
                "asset $name: it is compressed; add `androidResources { noCompress += \"filbert\" }`" +
                    " to `android { … }` in build.gradle.kts"
            } else {
                "asset $name: there is none of that name; put it into src/main/assets"
            }
        }
    }
}
