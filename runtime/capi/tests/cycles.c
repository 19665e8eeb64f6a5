/* Opens, classifies and frees again and again, and prints how much the memory in use grew after
 * the first tenth, in KiB. Arguments: a model, and how often. For Linux. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Asserts in every build. */
#undef NDEBUG
#include <assert.h>

#include "filbert.h"

/* Pages in memory that belong to no file. */
static long resident_kilobytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kilobytes = -1;
    assert(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %ld", &kilobytes) == 1)
            break;
    fclose(file);
    assert(kilobytes >= 0);
    return kilobytes;
}

static size_t open_descriptors(void)
{
    int descriptor = open("/", O_RDONLY);
    assert(descriptor >= 0);
    close(descriptor);
    /* The lowest free one. */
    return (size_t)descriptor;
}

static void succeed(filbert_error *error)
{
    if (error != NULL) {
        fprintf(stderr, "%s\n", filbert_error_message(error, NULL));
        assert(0);
    }
}

int main(int count, char **arguments)
{
    const char *path;
    long cycles, cycle, before = 0;
    size_t descriptors = open_descriptors();
    int file;
    struct stat status;

    assert(count == 3);
    path = arguments[1];
    cycles = atol(arguments[2]);
    file = open(path, O_RDONLY);
    assert(file >= 0 && fstat(file, &status) == 0);
    for (cycle = 0; cycle < cycles; cycle++) {
        filbert_classifier *classifier;
        filbert_cancellation *cancellation = filbert_cancellation_new();
        filbert_results *results;
        filbert_error *error;
        filbert_input input = {{"dull", 4}, {NULL, 0}};

        if (cycle == cycles / 10)
            before = resident_kilobytes();
        if (cycle % 2 == 0)
            succeed(filbert_classifier_open(path, strlen(path), NULL, &classifier));
        else
            succeed(filbert_classifier_open_descriptor(file, 0, (uint64_t)status.st_size, NULL,
                                                       &classifier));
        succeed(filbert_classifier_classify_batch(classifier, &input, 1, cancellation, &results));
        error = filbert_results_get(results, 1, NULL);
        assert(filbert_error_code(error) == FILBERT_ERROR_INVALID_ARGUMENT);
        filbert_error_free(error);
        filbert_results_free(results);
        filbert_cancellation_free(cancellation);
        if (cycle % 3 == 0)
            filbert_classifier_close(classifier);
        filbert_classifier_free(classifier);
    }
    printf("%ld\n", resident_kilobytes() - before);
    close(file);
    assert(open_descriptors() == descriptors);
    return 0;
}
