/* Reads texts from standard input, one a line, and prints for each its label, the score and the
 * text, with tabs between; for a line that cannot be labelled, "error", 0 and the line. It runs
 * until the input ends, so it fits behind a pipe, a serial line or a named pipe on a device
 * without any service manager:
 *
 *     label_lines model.filbert < texts > labels
 *
 * Exit codes: 0 done, 1 something failed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <filbert.h>

/* Prints why a call failed. True if it did. */
static int failed(const char *what, filbert_error *error)
{
    if (error == NULL)
        return 0;
    fprintf(stderr, "%s: %s\n", what, filbert_error_message(error, NULL));
    filbert_error_free(error);
    return 1;
}

enum line { LINE, END, NO_MEMORY };

/* Reads a line of any length, without its end, into a buffer that grows. */
static enum line read_line(char **line, size_t *capacity, size_t *length)
{
    int byte;
    *length = 0;
    while ((byte = getchar()) != EOF && byte != '\n') {
        if (*length == *capacity) {
            size_t larger = *capacity == 0 ? 256 : *capacity * 2;
            char *grown = (char *)realloc(*line, larger);
            if (grown == NULL)
                return NO_MEMORY;
            *line = grown;
            *capacity = larger;
        }
        (*line)[(*length)++] = (char)byte;
    }
    if (byte == EOF && *length == 0)
        return END;
    /* Serial lines end with both. */
    if (*length > 0 && (*line)[*length - 1] == '\r')
        (*length)--;
    return LINE;
}

/* Whoever waits for the answer has it when this returns. */
static void answer(const char *label, float score, const char *text, size_t length)
{
    printf("%s\t%.4f\t", label, score);
    fwrite(text, 1, length, stdout);
    putchar('\n');
    fflush(stdout);
}

/* True if the line was labelled. */
static int label(const filbert_classifier *classifier, const char *text, size_t length)
{
    filbert_results *results = NULL;
    filbert_result result;
    /* Text that is not UTF-8, say, is an error of this line, not of the program. */
    int labelled =
        !failed("a line", filbert_classifier_classify(classifier, text, length, &results)) &&
        !failed("a result", filbert_results_get(results, 0, &result)) &&
        result.category_count > 0;

    if (labelled)
        answer(result.categories[0].label, result.categories[0].score, text, length);
    else
        answer("error", 0, text, length);
    filbert_results_free(results);
    return labelled;
}

int main(int count, char **arguments)
{
    filbert_classifier *classifier;
    char *line = NULL;
    size_t capacity = 0, length;
    enum line line_read;
    int failures = 0;

    if (count != 2) {
        fprintf(stderr, "usage: %s MODEL < TEXTS\n", arguments[0]);
        return 1;
    }
    if (failed(arguments[1], filbert_classifier_open(arguments[1], strlen(arguments[1]), NULL,
                                                     &classifier)))
        return 1;
    /* Does this device compute what the converter did? */
    if (failed(arguments[1], filbert_selftest(classifier)))
        return 1;
    while ((line_read = read_line(&line, &capacity, &length)) == LINE)
        failures += !label(classifier, line, length);
    if (line_read == NO_MEMORY) {
        fputs("a line is longer than the memory\n", stderr);
        failures++;
    }
    free(line);
    filbert_classifier_free(classifier);
    return failures > 0 || ferror(stdin) || ferror(stdout);
}
