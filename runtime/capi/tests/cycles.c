/* Opens, classifies and frees again and again, and prints how much the memory in use grew after
 * the first tenth, in KiB. Arguments: a model, and how often. For Linux. */
#include <dirent.h>
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

/* Entries of a folder of /proc: open descriptors, or threads. */
static size_t count_entries(const char *path)
{
    DIR *folder = opendir(path);
    size_t count = 0;
    assert(folder != NULL);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
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
    size_t descriptors, threads;
    int file;
    struct stat status;

    assert(count == 3);
    path = arguments[1];
    cycles = atol(arguments[2]);
    file = open(path, O_RDONLY);
    assert(file >= 0 && fstat(file, &status) == 0);
    descriptors = count_entries("/proc/self/fd");
    threads = count_entries("/proc/self/task");
    for (cycle = 0; cycle < cycles; cycle++) {
        filbert_options options = {0};
        filbert_classifier *classifier;
        filbert_cancellation *cancellation = filbert_cancellation_new();
        filbert_results *results;
        filbert_error *error;
        filbert_input input = {{"dull", 4}, {NULL, 0}};

        if (cycle == cycles / 10)
            before = resident_kilobytes();
        options.size = sizeof options;
        options.threads = cycle % 50 == 0 ? 2 : 1;
        if (cycle % 2 == 0)
            succeed(filbert_classifier_open(path, strlen(path), &options, &classifier));
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
    assert(count_entries("/proc/self/fd") == descriptors);
    assert(count_entries("/proc/self/task") == threads);
    close(file);
    return 0;
}
