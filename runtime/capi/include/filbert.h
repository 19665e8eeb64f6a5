/* Filbert: BERT classifiers in int8, on the device.
 *
 *     filbert_classifier *classifier;
 *     filbert_error *error = filbert_classifier_open(path, strlen(path), NULL, &classifier);
 *     if (error) {
 *         fprintf(stderr, "%s\n", filbert_error_message(error, NULL));
 *         filbert_error_free(error);
 *     }
 *
 * Errors. A function that can fail returns a filbert_error: NULL if it succeeded, and else an
 * error that the caller owns. What such a function gives back goes to its last argument, where
 * it puts NULL or zeros if it fails. There is no last error to ask for, and a panic of the
 * library does not pass its border: it is the error FILBERT_ERROR_INTERNAL. (Memory that runs
 * out ends the process.) A function that returns anything else cannot fail.
 *
 * Text. What goes in is UTF-8, given by its first byte and its length in bytes; it need not end
 * with a NUL, may contain some, and is not kept after the call. NULL with length 0 is the empty
 * text. Text that comes out says whether it ends with a NUL.
 *
 * Null pointers. Where a pointer is needed, NULL is FILBERT_ERROR_INVALID_ARGUMENT; a function
 * that cannot fail returns 0 or NULL for it, or does nothing. Any other pointer must be valid:
 * a handle must come from this library and not be freed.
 *
 * Threads. Each handle says what several threads may do with it at once.
 *
 * Compatibility. Functions and error codes stay; new ones come. filbert_options grows at its
 * end and begins with its size; other structs stay as they are.
 */
#ifndef FILBERT_H
#define FILBERT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library, such as "0.1.0"; it ends with a NUL and lives for ever. */
const char *filbert_version(void);

/* Why a call failed.
 *
 * Threads: several may read one error at once. */
typedef struct filbert_error filbert_error;

/* Codes of errors. The numbers stay; new ones come. */
enum {
    /* No error. */
    FILBERT_OK = 0,
    /* The file could not be read. */
    FILBERT_ERROR_IO = 1,
    /* The bytes are not a .filbert file. */
    FILBERT_ERROR_NOT_A_MODEL = 2,
    /* The file or an option needs what this version of the library does not have. */
    FILBERT_ERROR_UNSUPPORTED = 3,
    /* The file contradicts itself or the format. */
    FILBERT_ERROR_MALFORMED = 4,
    /* A section of the file does not have the checksum that the file states. */
    FILBERT_ERROR_CHECKSUM = 5,
    /* An argument or option cannot be used: a null pointer, text that is not UTF-8, a number
     * out of its range. */
    FILBERT_ERROR_INVALID_ARGUMENT = 6,
    /* The text has more tokens than the model takes, and truncation was refused. */
    FILBERT_ERROR_TEXT_TOO_LONG = 7,
    /* The self-test did not reproduce the logits in the file. */
    FILBERT_ERROR_SELF_TEST = 8,
    /* A defect of the library. What was in use is still whole and can be freed. */
    FILBERT_ERROR_INTERNAL = 1000
};

/* The code of an error; FILBERT_OK for NULL. */
uint32_t filbert_error_code(const filbert_error *error);

/* A sentence that names the file or argument, and says what was expected and what to do. It is
 * UTF-8, ends with a NUL, and lives as long as the error; for NULL it is empty. Its length in
 * bytes, without the NUL, goes to length, unless that is NULL. */
const char *filbert_error_message(const filbert_error *error, size_t *length);

/* Frees an error. NULL is ignored. */
void filbert_error_free(filbert_error *error);

/* How a classifier works. Zero stands for the default of every field, so write
 *
 *     filbert_options options = {0};
 *     options.size = sizeof options;
 *
 * and set what you need. A library older than the program refuses options that it does not
 * know, unless they are zero (FILBERT_ERROR_UNSUPPORTED). */
typedef struct filbert_options {
    /* The size of this struct in bytes. */
    size_t size;
    /* Threads that work on a call, the caller's included: 1 to 1024; 0 stands for 1. The results
     * do not depend on it. */
    size_t threads;
} filbert_options;

/* A model that is open and ready to classify.
 *
 * Threads: several may classify with one classifier at once. It must be freed once, after all
 * these calls have returned. */
typedef struct filbert_classifier filbert_classifier;

/* Opens a .filbert file, as `filbert convert` makes it, with some options or, for NULL, the
 * default ones.
 *
 * The file is mapped, not copied, and must not change while it is open: replace a model by
 * renaming a new file over it.
 *
 * Errors: IO, NOT_A_MODEL, UNSUPPORTED, MALFORMED, CHECKSUM; INVALID_ARGUMENT also for threads
 * that cannot be started. */
filbert_error *filbert_classifier_open(const char *path, size_t path_length,
                                       const filbert_options *options,
                                       filbert_classifier **classifier);

/* Closes the file and frees the classifier. NULL is ignored. Labels of its classifications are
 * gone then; the classifications themselves can still be freed. */
void filbert_classifier_free(filbert_classifier *classifier);

/* What the model says of one text.
 *
 * Threads: several may read one classification at once. */
typedef struct filbert_classification filbert_classification;

/* Classifies one text. A text with more tokens than the model takes is cut at its end. */
filbert_error *filbert_classifier_classify(const filbert_classifier *classifier,
                                           const char *text, size_t text_length,
                                           filbert_classification **classification);

/* One label of the model and how well it fits. */
typedef struct filbert_category {
    /* The label's place among the model's labels, and its logit's among the logits. */
    size_t index;
    /* The label's name in UTF-8, without a NUL: print it with "%.*s". It belongs to the
     * classifier and lives as long. */
    const char *label;
    /* The length of the name in bytes. */
    size_t label_length;
    /* A probability, 0 to 1; of a regression model, the logit. */
    float score;
} filbert_category;

/* How many categories there are. */
size_t filbert_classification_category_count(const filbert_classification *classification);

/* The category at a position; that at 0 fits best.
 *
 * Errors: INVALID_ARGUMENT, also for a position that is not below the count. */
filbert_error *filbert_classification_category(const filbert_classification *classification,
                                               size_t position, filbert_category *category);

/* The model's raw answer, one number for each of its labels, in the model's order: the same
 * bits on every machine. They live as long as the classification. How many there are goes to
 * count, unless that is NULL. */
const float *filbert_classification_logits(const filbert_classification *classification,
                                           size_t *count);

/* Frees a classification. NULL is ignored. */
void filbert_classification_free(filbert_classification *classification);

#ifdef __cplusplus
}
#endif

#endif
