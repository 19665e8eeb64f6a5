package dev.filbert

/**
 * Reads lines of a number and a text, classifies the text so many times, and prints the nanoseconds
 * that it took: for `android/jni/examples/overhead.rs`.
 */
fun main(arguments: Array<String>) {
    TextClassifier.fromFile(arguments[0]).use { classifier ->
        for (line in System.`in`.bufferedReader(Charsets.UTF_8).lineSequence()) {
            val (count, text) = line.split(" ", limit = 2)
            val start = System.nanoTime()
            repeat(count.toInt()) { classifier.classify(text) }
            println(System.nanoTime() - start)
        }
    }
}
