package dev.filbert

/** Texts and pairs of texts as [Native.classify] takes them. */
internal class Batch private constructor(val utf8: ByteArray, val lengths: IntArray) {
    companion object {
        fun of(pairs: List<Pair<String, String?>>): Batch {
            val texts = ArrayList<ByteArray>(2 * pairs.size)
            val lengths = IntArray(2 * pairs.size)
            var total = 0L
            val add = { index: Int, text: String? ->
                val bytes = text?.toByteArray()
                lengths[index] = bytes?.size ?: -1
                if (bytes != null) {
                    texts.add(bytes)
                    total += bytes.size
                }
            }
            pairs.forEachIndexed { index, (first, second) ->
                add(2 * index, first)
                add(2 * index + 1, second)
            }
            if (total > MOST) {
                throw FilbertException(
                    ErrorCode.INVALID_ARGUMENT.number,
                    "a batch of $total bytes of text: expected at most $MOST; divide it",
                )
            }
            val utf8 = ByteArray(total.toInt())
            var next = 0
            for (bytes in texts) {
                bytes.copyInto(utf8, next)
                next += bytes.size
            }
            return Batch(utf8, lengths)
        }

        /** Bytes that an array may have on every JVM. */
        private const val MOST = Int.MAX_VALUE - 8
    }
}
