/* What needs a POSIX system: several threads with one classifier at once, and models in a part of
 * a file. Arguments: a model, a file to write, and how many texts take many seconds. Ends with a
 * failed assertion where an answer or an error is not the one expected. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Asserts in every build. */
#undef NDEBUG
#include <assert.h>

#include "filbert.h"

enum { THREADS = 16, CALLS = 40, TEXTS = 4, LABELS = 2 };

static const char *const TEXT[TEXTS] = {"a gorgeous, witty film", "dull",
                                        "\xf0\x9f\x98\x80 \xe5\xa5\xbd", ""};

static void succeed(filbert_error *error)
{
    if (error != NULL) {
        fprintf(stderr, "%s\n", filbert_error_message(error, NULL));
        assert(0);
    }
}

static filbert_classifier *open_model(const char *path, size_t threads)
{
    filbert_classifier *classifier;
    filbert_options options = {0};
    options.size = sizeof options;
    options.threads = threads;
    succeed(filbert_classifier_open(path, strlen(path), &options, &classifier));
    return classifier;
}

static void wait_milliseconds(long milliseconds)
{
    struct timespec time = {0, 0};
    time.tv_nsec = milliseconds * 1000000;
    nanosleep(&time, NULL);
}

struct job {
    const filbert_classifier *classifier;
    const filbert_cancellation *cancellation;
    float expected[TEXTS][LABELS];
    /* The error that the calls shall end with, if any. */
    uint32_t code;
    filbert_input *inputs;
    size_t count;
};

/* Right answers, whatever the others do. */
static void *classify(void *argument)
{
    const struct job *job = (const struct job *)argument;
    int call;
    for (call = 0; call < CALLS; call++) {
        int text = call % TEXTS;
        filbert_results *results;
        filbert_result result;
        succeed(filbert_classifier_classify(job->classifier, TEXT[text], strlen(TEXT[text]),
                                            &results));
        succeed(filbert_results_get(results, 0, &result));
        assert(result.logit_count == LABELS);
        assert(memcmp(result.logits, job->expected[text], sizeof job->expected[text]) == 0);
        filbert_results_free(results);
    }
    return NULL;
}

/* A batch that would take many seconds, which another thread ends. */
static void *classify_until(void *argument)
{
    const struct job *job = (const struct job *)argument;
    filbert_results *results = NULL;
    filbert_error *error = filbert_classifier_classify_batch(
        job->classifier, job->inputs, job->count, job->cancellation, &results);
    assert(error != NULL && results == NULL);
    assert(filbert_error_code(error) == job->code);
    filbert_error_free(error);
    return NULL;
}

static void run(void *(*work)(void *), struct job *job, int count, void (*meanwhile)(struct job *))
{
    pthread_t threads[THREADS];
    int i;
    for (i = 0; i < count; i++)
        assert(pthread_create(&threads[i], NULL, work, job) == 0);
    if (meanwhile != NULL)
        meanwhile(job);
    for (i = 0; i < count; i++)
        assert(pthread_join(threads[i], NULL) == 0);
}

static void close_soon(struct job *job)
{
    wait_milliseconds(50);
    filbert_classifier_close(job->classifier);
    /* It is closed now, not at some time. */
    {
        filbert_results *results;
        filbert_error *error = filbert_classifier_classify(job->classifier, "a", 1, &results);
        assert(filbert_error_code(error) == FILBERT_ERROR_CLOSED);
        filbert_error_free(error);
    }
}

static void cancel_soon(struct job *job)
{
    wait_milliseconds(50);
    filbert_cancellation_cancel(job->cancellation);
}

static void expect(filbert_error *error, uint32_t code, const char *part)
{
    const char *message = filbert_error_message(error, NULL);
    if (filbert_error_code(error) != code || strstr(message, part) == NULL) {
        fprintf(stderr, "expected %u \"%s\", found %u \"%s\"\n", (unsigned)code, part,
                (unsigned)filbert_error_code(error), message);
        assert(0);
    }
    filbert_error_free(error);
}

/* A model at an offset of a larger file, as in an Android package. */
static void open_parts(const char *model, const char *package)
{
    static const size_t offsets[] = {0, 4, 8, 60, 4096, 4100, 16388};
    size_t i;
    int source = open(model, O_RDONLY);
    off_t length = lseek(source, 0, SEEK_END);
    char *bytes = (char *)malloc((size_t)length);
    filbert_classifier *classifier = NULL;
    filbert_classifier *whole = open_model(model, 1);
    filbert_results *expected;
    filbert_result right;
    int ends[2];

    assert(source >= 0 && bytes != NULL && pread(source, bytes, (size_t)length, 0) == length);
    succeed(filbert_classifier_classify(whole, TEXT[0], strlen(TEXT[0]), &expected));
    succeed(filbert_results_get(expected, 0, &right));
    for (i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        int file = open(package, O_RDWR | O_CREAT | O_TRUNC, 0600);
        filbert_results *results;
        filbert_result result;
        uint64_t offset = offsets[i];
        assert(file >= 0 && pwrite(file, bytes, (size_t)length, (off_t)offset) == length);
        assert(pwrite(file, "more", 4, (off_t)offset + length) == 4);
        succeed(filbert_classifier_open_descriptor(file, offset, (uint64_t)length, NULL,
                                                   &classifier));
        assert(close(file) == 0);
        succeed(filbert_selftest(classifier));
        succeed(filbert_verify(classifier));
        succeed(filbert_classifier_classify(classifier, TEXT[0], strlen(TEXT[0]), &results));
        succeed(filbert_results_get(results, 0, &result));
        assert(memcmp(result.logits, right.logits, LABELS * sizeof *result.logits) == 0);
        filbert_results_free(results);
        filbert_classifier_free(classifier);
    }
    expect(filbert_classifier_open_descriptor(source, 2, 1000, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "zipalign");
    expect(filbert_classifier_open_descriptor(source, 4, (uint64_t)length, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "offset and length");
    expect(filbert_classifier_open_descriptor(source, 4, UINT64_MAX, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "offset and length");
    expect(filbert_classifier_open_descriptor(source, 64, 1000, NULL, &classifier),
           FILBERT_ERROR_NOT_A_MODEL, "offset 64");
    expect(filbert_classifier_open_descriptor(source, 0, 0, NULL, &classifier),
           FILBERT_ERROR_NOT_A_MODEL, "0 bytes");
    expect(filbert_classifier_open_descriptor(-1, 0, 1000, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "descriptor: ");
    assert(pipe(ends) == 0);
    expect(filbert_classifier_open_descriptor(ends[0], 0, 0, NULL, &classifier),
           FILBERT_ERROR_IO, "not a regular file");
    close(ends[0]);
    close(ends[1]);
    assert(classifier == NULL);

    filbert_results_free(expected);
    filbert_classifier_free(whole);
    free(bytes);
    close(source);
}

int main(int count, char **arguments)
{
    size_t threads;
    assert(count == 4);
    open_parts(arguments[1], arguments[2]);
    for (threads = 1; threads <= 3; threads += 2) {
        struct job job;
        filbert_classifier *classifier = open_model(arguments[1], threads);
        filbert_cancellation *cancellation = filbert_cancellation_new();
        size_t i;

        memset(&job, 0, sizeof job);
        job.classifier = classifier;
        for (i = 0; i < TEXTS; i++) {
            filbert_results *results;
            filbert_result result;
            succeed(filbert_classifier_classify(classifier, TEXT[i], strlen(TEXT[i]), &results));
            succeed(filbert_results_get(results, 0, &result));
            memcpy(job.expected[i], result.logits, sizeof job.expected[i]);
            filbert_results_free(results);
        }
        run(classify, &job, THREADS, NULL);

        job.count = (size_t)atol(arguments[3]);
        job.inputs = (filbert_input *)calloc(job.count, sizeof *job.inputs);
        assert(job.inputs != NULL);
        for (i = 0; i < job.count; i++) {
            job.inputs[i].first.data = TEXT[i % TEXTS];
            job.inputs[i].first.length = strlen(TEXT[i % TEXTS]);
        }
        job.cancellation = cancellation;
        job.code = FILBERT_ERROR_CANCELLED;
        run(classify_until, &job, 4, cancel_soon);

        /* Not closed by that. */
        run(classify, &job, 2, NULL);

        job.cancellation = NULL;
        job.code = FILBERT_ERROR_CLOSED;
        run(classify_until, &job, 4, close_soon);

        free(job.inputs);
        filbert_cancellation_free(cancellation);
        filbert_classifier_free(classifier);
    }
    puts("done");
    return 0;
}
