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
 * out ends the process.) A function that returns anything else cannot fail. Every function may
 * return INVALID_ARGUMENT and INTERNAL; which others it may is said beside it.
 *
 * Text. What goes in is UTF-8, given by its first byte and its length in bytes; it need not end
 * with a NUL, may contain some, and is not kept after the call. NULL with length 0 is the empty
 * text. Text that comes out says whether it ends with a NUL.
 *
 * Null pointers. Where a pointer is needed, NULL is FILBERT_ERROR_INVALID_ARGUMENT; a function
 * that cannot fail returns 0 or NULL for it, or does nothing. NULL with a length or count of 0 is
 * no bytes, or none. Any other pointer must be valid: a handle must come from this library and
 * not be freed.
 *
 * Threads. Each handle says what several threads may do with it at once. A child of fork must
 * not use, close or free handles of its parent. Opening reads the environment, which no other
 * thread may change meanwhile (setenv).
 *
 * Compatibility. Functions and error codes stay; new ones come. filbert_options grows at its
 * end and begins with its size; other structs stay as they are.
 *
 * This file is generated: the sources are in runtime/capi/src. */

#ifndef FILBERT_H
#define FILBERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * No error.
 */
#define FILBERT_OK 0

/**
 * The file could not be read.
 */
#define FILBERT_ERROR_IO 1

/**
 * The bytes are not a .filbert file.
 */
#define FILBERT_ERROR_NOT_A_MODEL 2

/**
 * The file or an option needs what this version of the library does not have.
 */
#define FILBERT_ERROR_UNSUPPORTED 3

/**
 * The file contradicts itself or the format.
 */
#define FILBERT_ERROR_MALFORMED 4

/**
 * A section of the file does not have the checksum that the file states.
 */
#define FILBERT_ERROR_CHECKSUM 5

/**
 * An argument or option cannot be used: a null pointer, text that is not UTF-8, a number out of
 * its range.
 */
#define FILBERT_ERROR_INVALID_ARGUMENT 6

/**
 * The text has more tokens than the model takes, and may not be cut to that.
 */
#define FILBERT_ERROR_TEXT_TOO_LONG 7

/**
 * The self-test did not reproduce the logits in the file.
 */
#define FILBERT_ERROR_SELF_TEST 8

/**
 * The call was cancelled before it was done.
 */
#define FILBERT_ERROR_CANCELLED 9

/**
 * The classifier is closed, or was before the call was done.
 */
#define FILBERT_ERROR_CLOSED 10

/**
 * A defect of the library. What was in use is still whole and can be freed.
 */
#define FILBERT_ERROR_INTERNAL 1000

/**
 * The longer of two texts is cut, token by token; a single text at its end.
 */
#define FILBERT_TRUNCATION_LONGEST_FIRST 0

/**
 * Only the first text is cut.
 */
#define FILBERT_TRUNCATION_ONLY_FIRST 1

/**
 * Only the second text of a pair is cut.
 */
#define FILBERT_TRUNCATION_ONLY_SECOND 2

/**
 * None is cut: a long text is the error FILBERT_ERROR_TEXT_TOO_LONG.
 */
#define FILBERT_TRUNCATION_REFUSE 3

/**
 * Ends calls from another thread.
 *
 * Threads: several may use one at once. It is freed once, when no thread and no call uses it any
 * more.
 */
typedef struct filbert_cancellation filbert_cancellation;

/**
 * A model that is open and ready to classify.
 *
 * Threads: several may use one classifier at once, and any of them may close it. It is freed
 * once, when no thread uses it any more.
 */
typedef struct filbert_classifier filbert_classifier;

/**
 * Why a call failed.
 *
 * Threads: several may read one error at once.
 */
typedef struct filbert_error filbert_error;

/**
 * What the model says of the texts of one call.
 *
 * Threads: several may read them at once. They stay when the classifier is closed or freed.
 */
typedef struct filbert_results filbert_results;

/**
 * Some text: its first byte and its length in bytes. It is UTF-8, need not end with a NUL, and
 * may contain some, even a label of a model. NULL with length 0 is the empty text.
 */
typedef struct {
  /**
   * The first byte.
   */
  const char *data;
  /**
   * How many bytes there are.
   */
  size_t length;
} filbert_text;

/**
 * How a classifier works. Zero stands for the default of every field, so write
 *
 *     filbert_options options = {0};
 *     options.size = sizeof options;
 *
 * and set what you need. A library older than the program refuses options that it does not
 * know, unless they are zero (FILBERT_ERROR_UNSUPPORTED). Nothing that it points to is kept.
 */
typedef struct {
  /**
   * The size of this struct in bytes.
   */
  size_t size;
  /**
   * Threads that work on a call, the caller's included: 1 to 1024; 0 stands for 1. The
   * results do not depend on it.
   */
  size_t threads;
  /**
   * Categories in a result, the best ones; 0 stands for all.
   */
  size_t max_results;
  /**
   * The least score of a category in a result; 0 stands for none. (Of a regression model, whose
   * scores may be negative, FLT_MIN is next to 0.)
   */
  float score_threshold;
  /**
   * What is done with a text that is too long for the model: a FILBERT_TRUNCATION_*.
   */
  uint32_t truncation;
  /**
   * The labels that may be in a result, if any are given.
   */
  const filbert_text *allowed_labels;
  /**
   * How many there are.
   */
  size_t allowed_label_count;
  /**
   * The labels that may not. Not together with allowed ones.
   */
  const filbert_text *denied_labels;
  /**
   * How many there are.
   */
  size_t denied_label_count;
} filbert_options;

/**
 * What is classified: a text or a pair of texts, such as a question and its answer. Where
 * second.data is NULL there is one text; an empty second text needs another pointer.
 */
typedef struct {
  /**
   * The text, or the first of a pair.
   */
  filbert_text first;
  /**
   * The second text of a pair.
   */
  filbert_text second;
} filbert_input;

/**
 * One label of the model and how well it fits.
 */
typedef struct {
  /**
   * The label's place among the model's labels, and its logit's among the logits.
   */
  size_t index;
  /**
   * The label's name in UTF-8. It ends with a NUL, and lives as long as the results.
   */
  const char *label;
  /**
   * The length of the name in bytes, without the NUL.
   */
  size_t label_length;
  /**
   * A probability, 0 to 1; of a regression model, the logit.
   */
  float score;
} filbert_category;

/**
 * What the model says of one text. What it points to lives as long as the results.
 */
typedef struct {
  /**
   * The categories that the options let through, the best first.
   */
  const filbert_category *categories;
  /**
   * How many there are.
   */
  size_t category_count;
  /**
   * The model's raw answer, one number for each of its labels, in the model's order: the same
   * bits on every machine.
   */
  const float *logits;
  /**
   * How many there are.
   */
  size_t logit_count;
  /**
   * Tokens that the model saw, special tokens included.
   */
  size_t tokens;
  /**
   * Whether the text was cut to what the model takes.
   */
  bool truncated;
} filbert_result;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library, such as "0.1.0"; it ends with a NUL and lives for ever.
 */
const char *filbert_version(void);

/**
 * The kernel sets that this CPU can run, best first, with spaces between, such as "avx2
 * scalar"; it ends with a NUL and lives for ever. A classifier uses the first one, unless the
 * environment variable FILBERT_ISA names another: every set gives the same bits.
 */
const char *filbert_kernel_sets(void);

/**
 * A cancellation that nobody has used yet.
 */
filbert_cancellation *filbert_cancellation_new(void);

/**
 * Ends every call that was given this cancellation, within the time of one layer of the model or
 * of a long text's tokens: FILBERT_ERROR_CANCELLED. It stays cancelled: a call that begins later
 * ends at once. NULL is ignored.
 */
void filbert_cancellation_cancel(const filbert_cancellation *cancellation);

/**
 * Frees a cancellation, which no call may use any more. NULL is ignored.
 */
void filbert_cancellation_free(filbert_cancellation *cancellation);

/**
 * Opens a .filbert file, as `filbert convert` makes it, with some options or, for NULL, the
 * default ones.
 *
 * The file is mapped, not copied, and must not change while it is open: replace a model by
 * renaming a new file over it.
 *
 * Errors: IO, NOT_A_MODEL, UNSUPPORTED, MALFORMED, CHECKSUM; INVALID_ARGUMENT also for labels
 * that the model does not have, for threads that cannot be started, and for a FILBERT_ISA in the
 * environment that names no kernel set of this CPU.
 */
filbert_error *filbert_classifier_open(const char *path,
                                       size_t path_length,
                                       const filbert_options *options,
                                       filbert_classifier **classifier);

/**
 * Opens a model that is a part of an open file: of an Android package, say, whose assets are
 * given by descriptor, offset and length. The offset is a multiple of 4, as `zipalign` makes
 * it, and the asset is not compressed.
 *
 * The descriptor may be closed after the call; where it stands in the file does not matter.
 * Else as for filbert_classifier_open. Systems that are not Unix have no descriptors:
 * UNSUPPORTED.
 */
filbert_error *filbert_classifier_open_descriptor(int descriptor,
                                                  uint64_t offset,
                                                  uint64_t length,
                                                  const filbert_options *options,
                                                  filbert_classifier **classifier);

/**
 * Opens a model that lies in memory, at an address that is a multiple of 4. The memory is not
 * copied: it must stay, and not change, until the classifier is closed or freed.
 *
 * Errors: as for filbert_classifier_open, without IO.
 */
filbert_error *filbert_classifier_open_memory(const void *data,
                                              size_t length,
                                              const filbert_options *options,
                                              filbert_classifier **classifier);

/**
 * How many labels the model has; it gives as many logits. 0 for NULL.
 */
size_t filbert_classifier_label_count(const filbert_classifier *classifier);

/**
 * The name of the label with this index, which ends with a NUL too, and lives as long as the
 * classifier.
 *
 * Errors: INVALID_ARGUMENT, also for an index that is not below the count.
 */
filbert_error *filbert_classifier_label(const filbert_classifier *classifier,
                                        size_t index,
                                        filbert_text *label);

/**
 * The kernel set in use, such as "avx512vnni" or "i8mm"; it ends with a NUL, and lives as long
 * as the classifier. Empty for NULL.
 */
const char *filbert_classifier_kernel_set(const filbert_classifier *classifier);

/**
 * Classifies one text.
 *
 * Errors: CLOSED; TEXT_TOO_LONG, if the options do not let it be cut.
 */
filbert_error *filbert_classifier_classify(const filbert_classifier *classifier,
                                           const char *text,
                                           size_t text_length,
                                           filbert_results **results);

/**
 * Classifies a pair of texts, such as a premise and a hypothesis.
 *
 * Errors: as for filbert_classifier_classify.
 */
filbert_error *filbert_classifier_classify_pair(const filbert_classifier *classifier,
                                                const char *first,
                                                size_t first_length,
                                                const char *second,
                                                size_t second_length,
                                                filbert_results **results);

/**
 * Classifies many texts or pairs together, which is faster than one by one. Each has the result
 * that it would have alone, to the bit. The first one that fails ends the batch.
 *
 * With a cancellation, which may be NULL, another thread can end the call.
 *
 * Errors: as for filbert_classifier_classify, and CANCELLED.
 */
filbert_error *filbert_classifier_classify_batch(const filbert_classifier *classifier,
                                                 const filbert_input *inputs,
                                                 size_t count,
                                                 const filbert_cancellation *cancellation,
                                                 filbert_results **results);

/**
 * Recomputes the logits of the texts that travel in the file, and compares their bits: whether
 * this device computes what the converter did. It takes as long as some dozen texts.
 *
 * Errors: SELF_TEST, CLOSED.
 */
filbert_error *filbert_selftest(const filbert_classifier *classifier);

/**
 * Checks every checksum of the file, the weights' too, which opening it does not: for a file
 * that was downloaded. It reads the whole file.
 *
 * Errors: CHECKSUM, MALFORMED, CLOSED.
 */
filbert_error *filbert_verify(const filbert_classifier *classifier);

/**
 * Closes the classifier while other threads may use it: calls that run end within the time of
 * one layer of the model, or of a long text's tokens, with FILBERT_ERROR_CLOSED, and so does
 * each call that begins later. (filbert_verify runs to its end.) When this returns, the file is
 * closed, and memory that was given to filbert_classifier_open_memory is no longer used. Results
 * and labels stay.
 *
 * The classifier must still be freed. It may be closed twice; NULL is ignored.
 */
void filbert_classifier_close(const filbert_classifier *classifier);

/**
 * Frees the classifier, and closes it if it is open. No other thread may use it any more: where
 * one might, close it first, and free it when that thread is done. Results stay. NULL is
 * ignored.
 */
void filbert_classifier_free(filbert_classifier *classifier);

/**
 * The code of an error: a FILBERT_ERROR_*; FILBERT_OK for NULL.
 */
uint32_t filbert_error_code(const filbert_error *error);

/**
 * A sentence that names the file or argument, and says what was expected and what to do. It is
 * UTF-8, ends with a NUL, and lives as long as the error; for NULL it is empty. Its length in
 * bytes, without the NUL, goes to length, unless that is NULL.
 */
const char *filbert_error_message(const filbert_error *error, size_t *length);

/**
 * Frees an error. NULL is ignored.
 */
void filbert_error_free(filbert_error *error);

/**
 * Of how many texts there are results: one, or as many as the batch had. 0 for NULL.
 */
size_t filbert_results_count(const filbert_results *results);

/**
 * The result of one text, by its number in the batch, from 0.
 *
 * Errors: INVALID_ARGUMENT, also for a number that is not below the count.
 */
filbert_error *filbert_results_get(const filbert_results *results,
                                   size_t text,
                                   filbert_result *result);

/**
 * Frees results. NULL is ignored.
 */
void filbert_results_free(filbert_results *results);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FILBERT_H */
