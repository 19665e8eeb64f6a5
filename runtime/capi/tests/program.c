/* What a program in C or C++ does with the library. Arguments: a model, a file that is none, and
 * texts. Writes a line for each category and logit, for the test in c.rs to compare, and ends
 * with a failed assertion where an error is not the one expected. */
#include <stdint.h>
#include <stdio.h>
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

static filbert_classifier *open_model(const char *path, size_t threads)
{
    filbert_classifier *classifier = NULL;
    filbert_options options = {0, 0};
    options.size = sizeof options;
    options.threads = threads;
    succeed(filbert_classifier_open(path, strlen(path), &options, &classifier));
    assert(classifier != NULL);
    return classifier;
}

static void print(const filbert_classifier *classifier, const char *text)
{
    filbert_classification *result = NULL;
    size_t count = 0;
    size_t i;
    const float *logits;

    succeed(filbert_classifier_classify(classifier, text, strlen(text), &result));
    count = filbert_classification_category_count(result);
    for (i = 0; i < count; i++) {
        filbert_category category;
        succeed(filbert_classification_category(result, i, &category));
        printf("category %u %.*s %08x\n", (unsigned)category.index, (int)category.label_length,
               category.label, (unsigned)bits(category.score));
    }
    logits = filbert_classification_logits(result, &count);
    assert(filbert_classification_logits(result, NULL) == logits);
    for (i = 0; i < count; i++)
        printf("logit %08x\n", (unsigned)bits(logits[i]));

    {
        filbert_category category;
        expect(filbert_classification_category(result, count, &category),
               FILBERT_ERROR_INVALID_ARGUMENT, "the result has");
        assert(category.label == NULL && category.label_length == 0);
    }
    expect(filbert_classification_category(result, 0, NULL), FILBERT_ERROR_INVALID_ARGUMENT,
           "category: expected a pointer");
    filbert_classification_free(result);
}

static void refuse_to_open(const char *model, const char *no_model)
{
    filbert_classifier *classifier = NULL;
    filbert_options options = {0, 0};
    const char *missing = "missing/model.filbert";
    /* Of a newer library, with one more option, which is set. */
    struct {
        filbert_options options;
        size_t more;
    } newer = {{0, 0}, 1};

    expect(filbert_classifier_open(missing, strlen(missing), NULL, &classifier),
           FILBERT_ERROR_IO, missing);
    assert(classifier == NULL);
    expect(filbert_classifier_open(no_model, strlen(no_model), NULL, &classifier),
           FILBERT_ERROR_NOT_A_MODEL, no_model);
    expect(filbert_classifier_open("", 0, NULL, &classifier), FILBERT_ERROR_IO, "");
    expect(filbert_classifier_open("a\0b", 3, NULL, &classifier), FILBERT_ERROR_IO, "a");
    expect(filbert_classifier_open("\xff", 1, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "path");
    expect(filbert_classifier_open(NULL, 1, NULL, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "path: expected a pointer");
    expect(filbert_classifier_open(model, strlen(model), NULL, NULL),
           FILBERT_ERROR_INVALID_ARGUMENT, "classifier: expected a pointer");

    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "size");
    options.size = sizeof options;
    options.threads = 100000;
    expect(filbert_classifier_open(model, strlen(model), &options, &classifier),
           FILBERT_ERROR_INVALID_ARGUMENT, "threads");
    newer.options.size = sizeof newer;
    expect(filbert_classifier_open(model, strlen(model), &newer.options, &classifier),
           FILBERT_ERROR_UNSUPPORTED, "options");
    assert(classifier == NULL);
    newer.more = 0;
    succeed(filbert_classifier_open(model, strlen(model), &newer.options, &classifier));
    filbert_classifier_free(classifier);
}

static void refuse_to_classify(const filbert_classifier *classifier)
{
    filbert_classification *result = NULL;

    expect(filbert_classifier_classify(classifier, "a\xc3", 2, &result),
           FILBERT_ERROR_INVALID_ARGUMENT, "text: ");
    expect(filbert_classifier_classify(classifier, "a", SIZE_MAX, &result),
           FILBERT_ERROR_INVALID_ARGUMENT, "text: ");
    expect(filbert_classifier_classify(classifier, NULL, 1, &result),
           FILBERT_ERROR_INVALID_ARGUMENT, "text: expected a pointer");
    expect(filbert_classifier_classify(NULL, "a", 1, &result), FILBERT_ERROR_INVALID_ARGUMENT,
           "classifier: expected a pointer");
    expect(filbert_classifier_classify(classifier, "a", 1, NULL),
           FILBERT_ERROR_INVALID_ARGUMENT, "classification: expected a pointer");
    assert(result == NULL);

    /* Texts all the same: none, and one with a NUL in it. */
    succeed(filbert_classifier_classify(classifier, NULL, 0, &result));
    filbert_classification_free(result);
    succeed(filbert_classifier_classify(classifier, "a\0b", 3, &result));
    filbert_classification_free(result);
}

/* What cannot fail takes null pointers. */
static void use_nothing(void)
{
    size_t length = 1;

    assert(filbert_error_code(NULL) == FILBERT_OK);
    assert(strcmp(filbert_error_message(NULL, &length), "") == 0 && length == 0);
    assert(filbert_classification_category_count(NULL) == 0);
    length = 1;
    assert(filbert_classification_logits(NULL, &length) == NULL && length == 0);
    assert(filbert_classification_logits(NULL, NULL) == NULL);
    filbert_error_free(NULL);
    filbert_classification_free(NULL);
    filbert_classifier_free(NULL);
}

int main(int count, char **arguments)
{
    int i;
    filbert_classifier *classifier;

    assert(count > 2);
    printf("version %s\n", filbert_version());
    printf("codes %d %d %d %d %d %d %d %d\n", FILBERT_ERROR_IO, FILBERT_ERROR_NOT_A_MODEL,
           FILBERT_ERROR_UNSUPPORTED, FILBERT_ERROR_MALFORMED, FILBERT_ERROR_CHECKSUM,
           FILBERT_ERROR_INVALID_ARGUMENT, FILBERT_ERROR_TEXT_TOO_LONG, FILBERT_ERROR_SELF_TEST);
    use_nothing();
    refuse_to_open(arguments[1], arguments[2]);
    classifier = open_model(arguments[1], 2);
    refuse_to_classify(classifier);
    for (i = 3; i < count; i++)
        print(classifier, arguments[i]);
    filbert_classifier_free(classifier);
    return 0;
}
