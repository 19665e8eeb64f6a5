package dev.filbert

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class ErrorCodeTest {
    @Test
    fun `codes are those of the runtime, and one for defects`() {
        val source = File("../../runtime/src/error.rs").readText()
        val runtime =
            Regex("""^    (\w+) = (\d+),$""", RegexOption.MULTILINE)
                .findAll(source)
                .map { it.groupValues[1] to it.groupValues[2].toInt() }
                .toList()
        val kotlin =
            ErrorCode.entries
                .filter { it != ErrorCode.INTERNAL }
                .map { code ->
                    val words = code.name.lowercase().split("_")
                    words.joinToString("") { it.replaceFirstChar(Char::uppercase) } to code.number
                }
        assertEquals(runtime, kotlin)
        assertEquals(1000, ErrorCode.INTERNAL.number)
        assertEquals(ErrorCode.INTERNAL, ErrorCode.of(77))
    }
}
