package dev.filbert;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

/** The API as Java has it, with the names of MediaPipe's. */
class JavaTest {
    @Test
    void javaCallsItAsItCallsMediaPipe() {
        TextClassifierOptions options =
            TextClassifierOptions.builder()
                .setMaxResults(1)
                .setScoreThreshold(0.5f)
                .setCategoryAllowlist(List.of("POSITIVE"))
                .setThreads(2)
                .setTruncation(Truncation.LONGEST_FIRST)
                .build();
        String path = System.getProperty("filbert.model");
        try (TextClassifier classifier = TextClassifier.fromFile(path, options)) {
            TextClassifierResult result = classifier.classify("a gorgeous, witty film");
            Category best = result.categories().get(0);
            assertEquals("POSITIVE", best.categoryName());
            assertEquals(1, best.index());
            assertTrue(best.score() > 0.9f);
            assertEquals(2, result.logits().length);
            assertEquals(1, classifier.classifyBatch(List.of("dull")).size());
            assertEquals(List.of("NEGATIVE", "POSITIVE"), classifier.labels());
        }
        FilbertException failure =
            assertThrows(FilbertException.class, () -> TextClassifier.fromFile("none"));
        assertEquals(ErrorCode.IO, failure.code());
        assertEquals(1, failure.code().number());
    }
}
