package dev.filbert

import java.nio.ByteBuffer

/**
 * The native library. A classifier is a number there, 0 is none; of a number that stands for
 * nothing the functions throw [ErrorCode.CLOSED].
 *
 * Options are four numbers (threads, truncation, most results, bits of the threshold) and two
 * lists of labels in UTF-8.
 */
internal object Native {
    init {
        System.loadLibrary("filbert_jni")
    }

    @JvmStatic
    external fun version(): Array<String>

    @JvmStatic
    external fun openFile(
        path: ByteArray,
        numbers: IntArray,
        allowed: Array<ByteArray>,
        denied: Array<ByteArray>,
    ): Long

    /** The descriptor stays the caller's, who keeps it open during the call. */
    @JvmStatic
    external fun openDescriptor(
        descriptor: Int,
        offset: Long,
        length: Long,
        numbers: IntArray,
        allowed: Array<ByteArray>,
        denied: Array<ByteArray>,
    ): Long

    /** A direct buffer is borrowed until the classifier is closed. */
    @JvmStatic
    external fun openBuffer(
        buffer: ByteBuffer,
        position: Int,
        length: Int,
        numbers: IntArray,
        allowed: Array<ByteArray>,
        denied: Array<ByteArray>,
    ): Long

    @JvmStatic
    external fun openBytes(
        bytes: ByteArray,
        start: Int,
        length: Int,
        numbers: IntArray,
        allowed: Array<ByteArray>,
        denied: Array<ByteArray>,
    ): Long

    /** The kernel set, then the labels. */
    @JvmStatic
    external fun describe(classifier: Long): Array<String>

    @JvmStatic
    external fun close(classifier: Long)

    @JvmStatic
    external fun selfTest(classifier: Long): Int

    @JvmStatic
    external fun verify(classifier: Long)

    @JvmStatic
    external fun newCancellation(): Long

    @JvmStatic
    external fun cancel(cancellation: Long)

    @JvmStatic
    external fun freeCancellation(cancellation: Long)

    /**
     * The texts lie one after another in [utf8]. Without lengths they are one text; else each has
     * two lengths, the second of which is -1 where there is no second text. A cancellation of 0 is
     * none.
     *
     * Of each text: tokens, 1 if it was cut and else 0, the number of categories, an index and the
     * bits of a score for each of them, and the bits of the logits.
     */
    @JvmStatic
    external fun classify(
        classifier: Long,
        cancellation: Long,
        utf8: ByteArray,
        lengths: IntArray?,
    ): IntArray
}
