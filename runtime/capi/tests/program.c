/* What a program in C or C++ does with the library. Arguments: a model, a file that is none, and
 * a file of texts, one a line. Writes a line for each category and logit, for the test in c.rs to
 * compare, and ends with a failed assertion where an answer or an error is not the one expected. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Asserts in every build. */
#undef NDEBUG
#include <assert.h>

#include "filbert.h"

/* Asserts that a call failed, and frees the error. */
static void expect(filbert_error *error, uint32_t code, const char *part)
{
    size_t length = 0;
    const char *message = filbert_error_message(error, &length);
    if (filbert_error_code(error) != code || strstr(message, part) == NULL) {
        fprintf(stderr, "expected %u \"%s\", found %u \"%s\"\n", (unsigned)code, part,
                (unsigned)filbert_error_code(error), message);
        assert(0);
    }
    assert(error != NULL && length == strlen(message));
    assert(filbert_error_message(error, NULL) == message);
    filbert_error_free(error);
}

/* Asserts that a call succeeded. */
static void succeed(filbert_error *error)
{
    if (error != NULL) {
        fprintf(stderr, "%s\n", filbert_error_message(error, NULL));
        assert(0);
    }
}

static uint32_t bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static filbert_options default_options(void)
{
    filbert_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    return options;
}

static filbert_text text_of(const char *text)
{
    filbert_text record;
    record.data = text;
    record.length = strlen(text);
    return record;
}

/* A whole file in memory that `malloc` gave, which is aligned. */
static char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    long end;
    char *bytes;
    assert(file != NULL);
    assert(fseek(file, 0, SEEK_END) == 0);
    end = ftell(file);
    assert(end > 0);
    rewind(file);
    bytes = (char *)malloc((size_t)end);
    assert(bytes != NULL && fread(bytes, 1, (size_t)end, file) == (size_t)end);
    fclose(file);
    *length = (size_t)end;
    return bytes;
}

static filbert_classifier *open_model(const char *path, const filbert_options *options)
{
    filbert_classifier *classifier = NULL;
    succeed(filbert_classifier_open(path, strlen(path), options, &classifier));
    assert(classifier != NULL);
    return classifier;
}

static filbert_result get(const filbert_results *results, size_t text)
{
    filbert_result result;
    succeed(filbert_results_get(results, text, &result));
    return result;
}

/* Asserts that two results have the same bits. */
static void expect_same(filbert_result a, filbert_result b)
{
    size_t i;
    assert(a.logit_count == b.logit_count && a.category_count == b.category_count);
    assert(a.tokens == b.tokens && a.truncated == b.truncated);
    assert(memcmp(a.logits, b.logits, a.logit_count * sizeof *a.logits) == 0);
    for (i = 0; i < a.category_count; i++) {
        assert(a.categories[i].index == b.categories[i].index);
        assert(bits(a.categories[i].score) == bits(b.categories[i].score));
        assert(strcmp(a.categories[i].label, b.categories[i].label) == 0);
    }
}

static void print(const filbert_classifier *classifier, filbert_result result)
{
    size_t i;
    printf("tokens %u%s\n", (unsigned)result.tokens, result.truncated ? ", truncated" : "");
    for (i = 0; i < result.category_count; i++) {
        filbert_category category = result.categories[i];
        filbert_text label;
        assert(strlen(category.label) == category.label_length);
        succeed(filbert_classifier_label(classifier, category.index, &label));
        assert(label.length == category.label_length && strcmp(label.data, category.label) == 0);
        printf("category %u %s %08x\n", (unsigned)category.index, category.label,
               (unsigned)bits(category.score));
    }
    for (i = 0; i < result.logit_count; i++)
        printf("logit %08x\n", (unsigned)bits(result.logits[i]));
}

/* Each line of a file, alone and in one batch. */
static void classify_lines(const filbert_classifier *classifier, const char *path)
{
    size_t length;
    char *text = read_file(path, &length);
    size_t count = 0;
    size_t i;
    filbert_input *inputs = (filbert_input *)calloc(length, sizeof *inputs);
    char *line = text;
    filbert_results *batch = NULL;

    assert(inputs != NULL);
    while (line < text + length) {
        char *end = (char *)memchr(line, '\n', (size_t)(text + length - line));
        assert(end != NULL);
        inputs[count].first.data = line;
        inputs[count].first.length = (size_t)(end - line);
        count++;
        line = end + 1;
    }
    succeed(filbert_classifier_classify_batch(classifier, inputs, count, NULL, &batch));
    assert(filbert_results_count(batch) == count);
    for (i = 0; i < count; i++) {
        filbert_results *alone = NULL;
        succeed(filbert_classifier_classify(classifier, inputs[i].first.data,
                                            inputs[i].first.length, &alone));
        assert(filbert_results_count(alone) == 1);
        expect_same(get(alone, 0), get(batch, i));
        print(classifier, get(alone, 0));
        filbert_results_free(alone);
    }
    filbert_results_free(batch);
    free(inputs);
    free(text);
}

/* Pairs, alone and in a batch; a pair is not the text of its parts. */
static void classify_pairs(const filbert_classifier *classifier)
{
    filbert_input inputs[3];
    filbert_results *batch = NULL;
    filbert_results *pair = NULL;
    filbert_result result;

    memset(inputs, 0, sizeof inputs);
    inputs[0].first = text_of("a film");
    inputs[1].first = text_of("a film");
    inputs[1].second = text_of("of joy");
    inputs[2].first = text_of("a film");
    inputs[2].second = text_of("");
    succeed(filbert_classifier_classify_batch(classifier, inputs, 3, NULL, &batch));
    assert(get(batch, 0).tokens == 4 && get(batch, 1).tokens == 7 && get(batch, 2).tokens == 5);
    succeed(filbert_classifier_classify_pair(classifier, "a film", 6, "of joy", 6, &pair));
    result = get(pair, 0);
    expect_same(result, get(batch, 1));
    print(classifier, result);
    filbert_results_free(pair);
    filbert_results_free(batch);

    succeed(filbert_classifier_classify_batch(classifier, NULL, 0, NULL, &batch));
    assert(filbert_results_count(batch) == 0);
    filbert_results_free(batch);
}

static void refuse_to_open(const char *model, const char *no_model)
{
    filbert_classifier *classifier = NULL;
    filbert_options options = default_options();
    filbert_text labels[2];
    const char *missing = "missing/model.filbert";
    /* Of a newer library, with one more option, which is set. */
    struct {
        filbert_options options;
        size_t more;
    } newer;

    expect(filbert_classifier_open(missing, strlen(missing), NULL, &classifier),
           FILBERT_ERROR_IO, missing);
    assert(classifier == NULL);
    expect(filbert_classifier_open(no_model, strlen(no_model), NULL, &classifier),
           FILBERT_ERROR_NOT_A_MODEL, no_model);
    expect(filbert_classifier_open("", 0, NULL, &classifier), FILBERT_ERROR_IO,
           "cannot be opened");
    expect(filbert_classifier_open("a\0b", 3, NULL, &classifier), FILBERT_ERROR_IO, "a");
    expect(filbert_classifier_open("\xff", 1, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "path");
    expect(filbert_classifier_open(NULL, 1, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "path: expected a pointer");
    expect(filbert_classifier_open(model, strlen(model), NULL, NULL),
           FILBERT_ERROR_INVALID_ARGUMENT, "classifier: expected a pointer");

    options.size = 0;
    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "size");
    options.size = sizeof options;
    options.threads = 100000;
    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "threads");
    options = default_options();
    options.truncation = 4;
    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "truncation");
    options = default_options();
    labels[0] = text_of("POSITIVE");
    labels[1] = text_of("SIDEWAYS");
    options.allowed_labels = labels;
    options.allowed_label_count = 2;
    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "SIDEWAYS");
    labels[1].data = "\xff";
    labels[1].length = 1;
    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "number 1: options, allowed_labels: ");
    options.allowed_label_count = 1;
    options.denied_labels = labels;
    options.denied_label_count = 1;
    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "found both");
    assert(classifier == NULL);

    memset(&newer, 0, sizeof newer);
    newer.options.size = sizeof newer;
    newer.more = 1;
    expect(filbert_classifier_open(model, strlen(model), &newer.options, &classifier),
           FILBERT_ERROR_UNSUPPORTED, "options");
    assert(classifier == NULL);
    newer.more = 0;
    filbert_classifier_free(open_model(model, &newer.options));
}

/* What each option does. */
static void try_options(const char *model)
{
    filbert_options options = default_options();
    filbert_text label = text_of("POSITIVE");
    filbert_results *results = NULL;
    filbert_classifier *classifier;
    char many[4000];
    memset(many, 'a', sizeof many);
    {
        size_t i;
        for (i = 1; i < sizeof many; i += 2)
            many[i] = ' ';
    }

    options.max_results = 1;
    classifier = open_model(model, &options);
    succeed(filbert_classifier_classify(classifier, "dull", 4, &results));
    assert(get(results, 0).category_count == 1 && get(results, 0).logit_count == 2);
    assert(strcmp(get(results, 0).categories[0].label, "NEGATIVE") == 0);
    filbert_results_free(results);
    succeed(filbert_classifier_classify(classifier, many, sizeof many, &results));
    assert(get(results, 0).truncated);
    filbert_results_free(results);
    filbert_classifier_free(classifier);

    options = default_options();
    options.score_threshold = 0.5f;
    classifier = open_model(model, &options);
    succeed(filbert_classifier_classify(classifier, "dull", 4, &results));
    assert(get(results, 0).category_count == 1 && get(results, 0).categories[0].score >= 0.5f);
    filbert_results_free(results);
    filbert_classifier_free(classifier);

    options = default_options();
    options.allowed_labels = &label;
    options.allowed_label_count = 1;
    classifier = open_model(model, &options);
    succeed(filbert_classifier_classify(classifier, "dull", 4, &results));
    assert(get(results, 0).category_count == 1 && get(results, 0).categories[0].index == 1);
    filbert_results_free(results);
    filbert_classifier_free(classifier);

    options = default_options();
    options.denied_labels = &label;
    options.denied_label_count = 1;
    options.truncation = FILBERT_TRUNCATION_REFUSE;
    classifier = open_model(model, &options);
    succeed(filbert_classifier_classify(classifier, "dull", 4, &results));
    assert(get(results, 0).category_count == 1 && get(results, 0).categories[0].index == 0);
    filbert_results_free(results);
    expect(filbert_classifier_classify(classifier, many, sizeof many, &results),
           FILBERT_ERROR_TEXT_TOO_LONG, "tokens");
    assert(results == NULL);
    filbert_classifier_free(classifier);
}

static void refuse_to_classify(const filbert_classifier *classifier)
{
    filbert_results *results = NULL;
    filbert_result result;
    filbert_text label;
    filbert_input inputs[2];

    expect(filbert_classifier_classify(classifier, "a\xc3", 2, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "text: ");
    expect(filbert_classifier_classify(classifier, "a", SIZE_MAX, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "text: ");
    expect(filbert_classifier_classify(classifier, NULL, 1, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "text: expected a pointer");
    expect(filbert_classifier_classify(NULL, "a", 1, &results), FILBERT_ERROR_INVALID_ARGUMENT,
           "classifier: expected a pointer");
    expect(filbert_classifier_classify(classifier, "a", 1, NULL),
           FILBERT_ERROR_INVALID_ARGUMENT, "results: expected a pointer");
    expect(filbert_classifier_classify_pair(classifier, "a", 1, "\xff", 1, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "second: ");
    expect(filbert_classifier_classify_batch(classifier, NULL, 1, NULL, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "inputs: expected a pointer");
    memset(inputs, 0, sizeof inputs);
    inputs[1].first = text_of("\xff");
    expect(filbert_classifier_classify_batch(classifier, inputs, 2, NULL, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "number 1: first text: ");
    inputs[1].first = text_of("a");
    inputs[1].second.length = 1;
    expect(filbert_classifier_classify_batch(classifier, inputs, 2, NULL, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "number 1: second text: expected a pointer");
    expect(filbert_classifier_classify_batch(classifier, inputs, SIZE_MAX, NULL, &results),
           FILBERT_ERROR_INVALID_ARGUMENT, "inputs: ");
    assert(results == NULL);

    /* Texts all the same: none, and one with a NUL in it. */
    succeed(filbert_classifier_classify(classifier, NULL, 0, &results));
    filbert_results_free(results);
    succeed(filbert_classifier_classify(classifier, "a\0b", 3, &results));

    expect(filbert_results_get(results, 1, &result), FILBERT_ERROR_INVALID_ARGUMENT, "text: ");
    assert(result.categories == NULL && result.logits == NULL && result.logit_count == 0);
    expect(filbert_results_get(results, 0, NULL), FILBERT_ERROR_INVALID_ARGUMENT,
           "result: expected a pointer");
    filbert_results_free(results);

    assert(filbert_classifier_label_count(classifier) == 2);
    expect(filbert_classifier_label(classifier, 2, &label), FILBERT_ERROR_INVALID_ARGUMENT,
           "index: ");
    assert(label.data == NULL && label.length == 0);
    expect(filbert_classifier_label(classifier, SIZE_MAX, &label),
           FILBERT_ERROR_INVALID_ARGUMENT, "index: ");
}

/* A model in memory, where it stays. */
static void open_from_memory(const char *model)
{
    size_t length;
    char *bytes = read_file(model, &length);
    filbert_classifier *classifier = NULL;
    filbert_results *results = NULL;

    expect(filbert_classifier_open_memory(NULL, 1, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "data: expected a pointer");
    expect(filbert_classifier_open_memory(bytes, 0, NULL, &classifier),
           FILBERT_ERROR_NOT_A_MODEL, "0 bytes");
    expect(filbert_classifier_open_memory(bytes + 1, length - 1, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "multiple of 4");
    expect(filbert_classifier_open_memory(bytes, length - 4, NULL, &classifier),
           FILBERT_ERROR_MALFORMED, "length");
    assert(classifier == NULL);

    succeed(filbert_classifier_open_memory(bytes, length, NULL, &classifier));
    succeed(filbert_classifier_classify(classifier, "dull", 4, &results));
    filbert_classifier_close(classifier);
    /* The memory may go, and what was got from it stays. */
    memset(bytes, 0xff, length);
    free(bytes);
    {
        filbert_text label;
        filbert_results *none = NULL;
        succeed(filbert_classifier_label(classifier, 0, &label));
        assert(strcmp(label.data, "NEGATIVE") == 0);
        assert(filbert_classifier_kernel_set(classifier)[0] != '\0');
        expect(filbert_classifier_classify(classifier, "a", 1, &none), FILBERT_ERROR_CLOSED,
               "closed");
        assert(none == NULL);
        expect(filbert_selftest(classifier), FILBERT_ERROR_CLOSED, "closed");
        expect(filbert_verify(classifier), FILBERT_ERROR_CLOSED, "closed");
    }
    filbert_classifier_close(classifier);
    filbert_classifier_free(classifier);
    assert(strcmp(get(results, 0).categories[0].label, "NEGATIVE") == 0);
    filbert_results_free(results);
}

/* Cancelled before it begins: posix.c cancels calls that run. */
static void cancel(const filbert_classifier *classifier)
{
    filbert_cancellation *cancellation = filbert_cancellation_new();
    filbert_results *results = NULL;
    filbert_input input;
    memset(&input, 0, sizeof input);
    input.first = text_of("dull");

    succeed(filbert_classifier_classify_batch(classifier, &input, 1, cancellation, &results));
    filbert_results_free(results);
    filbert_cancellation_cancel(cancellation);
    expect(filbert_classifier_classify_batch(classifier, &input, 1, cancellation, &results),
           FILBERT_ERROR_CANCELLED, "cancelled");
    assert(results == NULL);
    filbert_cancellation_free(cancellation);
}

/* What cannot fail takes null pointers. */
static void use_nothing(void)
{
    size_t length = 1;

    assert(filbert_error_code(NULL) == FILBERT_OK);
    assert(strcmp(filbert_error_message(NULL, &length), "") == 0 && length == 0);
    assert(filbert_results_count(NULL) == 0);
    assert(filbert_classifier_label_count(NULL) == 0);
    assert(strcmp(filbert_classifier_kernel_set(NULL), "") == 0);
    expect(filbert_selftest(NULL), FILBERT_ERROR_INVALID_ARGUMENT, "classifier: expected");
    expect(filbert_verify(NULL), FILBERT_ERROR_INVALID_ARGUMENT, "classifier: expected");
    filbert_cancellation_cancel(NULL);
    filbert_cancellation_free(NULL);
    filbert_error_free(NULL);
    filbert_results_free(NULL);
    filbert_classifier_close(NULL);
    filbert_classifier_free(NULL);
}

int main(int count, char **arguments)
{
    filbert_options options = default_options();
    filbert_classifier *classifier;

    assert(count == 4);
    printf("version %s\n", filbert_version());
    printf("codes %d %d %d %d %d %d %d %d %d %d\n", FILBERT_ERROR_IO, FILBERT_ERROR_NOT_A_MODEL,
           FILBERT_ERROR_UNSUPPORTED, FILBERT_ERROR_MALFORMED, FILBERT_ERROR_CHECKSUM,
           FILBERT_ERROR_INVALID_ARGUMENT, FILBERT_ERROR_TEXT_TOO_LONG, FILBERT_ERROR_SELF_TEST,
           FILBERT_ERROR_CANCELLED, FILBERT_ERROR_CLOSED);
    use_nothing();
    refuse_to_open(arguments[1], arguments[2]);
    try_options(arguments[1]);
    open_from_memory(arguments[1]);

    options.threads = 2;
    classifier = open_model(arguments[1], &options);
    /* Which sets there are differs from machine to machine. */
    assert(strstr(filbert_kernel_sets(), filbert_classifier_kernel_set(classifier)) != NULL);
    assert(strstr(filbert_kernel_sets(), "scalar") != NULL);
    succeed(filbert_selftest(classifier));
    succeed(filbert_verify(classifier));
    refuse_to_classify(classifier);
    cancel(classifier);
    classify_lines(classifier, arguments[3]);
    classify_pairs(classifier);
    filbert_classifier_free(classifier);
    return 0;
}
