package dev.filbert

import java.io.File
import java.util.zip.ZipFile
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** What an app gets once its classes are shrunk and renamed by the rules in the AAR. */
class ShrinkTest {
    @TempDir lateinit var folder: File

    private val java = File(System.getProperty("java.home"))
    private val classPath =
        System.getProperty("java.class.path").split(File.pathSeparator).map { File(it) }

    private fun find(name: String) = classPath.first { name in it.name }

    private fun run(vararg arguments: String): Pair<Int, String> {
        val process =
            ProcessBuilder(File(java, "bin/java").path, *arguments)
                .redirectErrorStream(true)
                .start()
        val output = process.inputStream.bufferedReader().readText()
        return process.waitFor() to output
    }

    /** The library and `app.Main`, shrunk by some rules. */
    private fun shrink(name: String, rules: List<String>): File {
        val jar = File(folder, name)
        val libraries = listOf("kotlin-stdlib", "kotlinx-coroutines-core", "android-all")
        val arguments =
            listOf("-injars", find("test-classes").path + "(app/**.class)") +
                listOf("-injars", File(find("test-classes").parentFile, "classes").path) +
                listOf("-outjars", jar.path) +
                listOf("-libraryjars", "$java/jmods/java.base.jmod(!**.jar;!module-info.class)") +
                libraries.flatMap { listOf("-libraryjars", find(it).path) } +
                // An app may do without some of what its libraries refer to.
                listOf("-dontwarn", "-dontnote", "-dontoptimize", "-ignorewarnings") +
                listOf("-keep", "class app.Main { public static void main(java.lang.String[]); }") +
                rules
        val path = classPath.joinToString(File.pathSeparator)
        val (status, output) = run("-cp", path, "proguard.ProGuard", *arguments.toTypedArray())
        assertEquals(0, status, output)
        return jar
    }

    private fun runApp(jar: File): Pair<Int, String> {
        val path = listOf(jar, find("kotlin-stdlib"), find("kotlinx-coroutines-core"))
        return run(
            "-Djava.library.path=" + System.getProperty("java.library.path"),
            "-cp",
            path.joinToString(File.pathSeparator),
            "app.Main",
            Fixture.model.path,
        )
    }

    @Test
    fun `an app that is shrunk by the rules of the library runs`() {
        val jar = shrink("shrunk.jar", listOf("-include", "../filbert/consumer-rules.pro"))
        val names = ZipFile(jar).use { zip -> zip.entries().toList().map { it.name } }
        assertTrue("dev/filbert/Native.class" in names, "$names")
        assertFalse("dev/filbert/TextClassifier.class" in names, "nothing is renamed: $names")
        assertEquals(0 to "POSITIVE\n1\n", runApp(jar))
    }

    @Test
    fun `without the rules it does not`() {
        val (status, output) = runApp(shrink("broken.jar", emptyList()))
        assertTrue(status != 0 && "Error" in output, output)
    }
}
