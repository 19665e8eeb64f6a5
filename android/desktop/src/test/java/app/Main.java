package app;

import dev.filbert.FilbertException;
import dev.filbert.TextClassifier;

/** An app that ProGuard shrinks, for ShrinkTest: it prints a label and the code of an error. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        try (TextClassifier classifier = TextClassifier.fromFile(arguments[0])) {
            System.out.println(
                classifier.classify("a gorgeous, witty film").categories().get(0).categoryName());
        }
        try {
            TextClassifier.fromFile(arguments[0] + ".none");
        } catch (FilbertException failure) {
            System.out.println(failure.code().number());
        }
    }
}
