/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief The model, run by TensorFlow Lite Micro (TFLM).
 *
#if KWS_STATES
 * The network takes KWS_STEP_FRAMES frames at a time, and what it remembers of earlier ones: its states. These are
 * KWS_STATES inputs and as many outputs, which kws_model copies. They begin as the zero points of their tensors.
 *
#endif /* KWS_STATES */
 * Nothing allocates memory, and nothing is shared. You can run any number of kws_model side by side, each in its own
 * memory. Call the functions of one kws_model from one task at a time.
 */
#ifndef KWS_MODEL_H_
#define KWS_MODEL_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_platform.h"
#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Bytes for TFLM's interpreter and resolver, which lie in a kws_model. If TFLM's objects are larger, kws_model.cc does
 * not compile. Then define a larger number for all files.
 */
#ifndef KWS_MODEL_OBJECT_BYTES
#define KWS_MODEL_OBJECT_BYTES ((96 + 10 * KWS_MODEL_OPS) * sizeof(void *))
#endif

#if KWS_STATES
/** A running model. You provide its memory (static: some KiB), and kws_model_init sets it up. Private. */
#else
/** A running model. You provide its memory (static: some hundred bytes), and kws_model_init sets it up. Private. */
#endif /* KWS_STATES */
typedef struct kws_model {
    uint32_t set_up;   /**< Whether kws_model_init was called. */
    kws_status status; /**< What kws_model_init returned. */
    void *interpreter; /**< Interpreter in `objects`, or NULL. */
    uint64_t objects[(KWS_MODEL_OBJECT_BYTES + sizeof(uint64_t) - 1) / sizeof(uint64_t)]; /**< Memory of C++ objects. */
#if KWS_STATES
    int8_t states[KWS_STATE_BYTES]; /**< States for the next inference, in the order of the inputs. */
#endif /* KWS_STATES */
} kws_model;

/** @return sizeof(kws_model) in the compiled library, for other languages and to detect different settings. */
size_t kws_model_sizeof(void);

/**
 * Sets up the interpreter. Call it again to start anew, for example after an error.
 *
 * @param model The model to set up.
 * @param arena Memory for the interpreter, aligned to 16 bytes (`static KWS_ALIGNED uint8_t arena[...]`). Without this
 *     alignment, up to 15 bytes are lost. The arena belongs to the model until kws_model_deinit.
 * @param arena_size Bytes of the arena: KWS_ARENA_SIZE, or what your kernels need; at least 1024.
 * @return KWS_OK, KWS_ERR_ARGUMENT, KWS_ERR_SCHEMA, KWS_ERR_OPS, KWS_ERR_ARENA or KWS_ERR_TENSOR.
 */
kws_status kws_model_init(kws_model *model, void *arena, size_t arena_size);

/**
 * Ends the interpreter. The arena is yours again.
 *
 * @param model The model given to kws_model_init.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_model_deinit(kws_model *model);

/**
#if KWS_STATES
 * Starts a new stream: sets the states to their zero points.
#else
 * Clears the state that the model keeps between inferences. A model that takes a whole window has none.
#endif /* KWS_STATES */
 *
 * @param model A model that is set up.
 * @return KWS_OK, KWS_ERR_ARGUMENT, KWS_ERR_STATE, KWS_ERR_INVOKE, or the error of kws_model_init.
 */
kws_status kws_model_reset(kws_model *model);

/**
 * Returns the input, which you fill before each inference.
 *
 * @param model A model that is set up.
#if KWS_STATES
 * @return KWS_INPUT_SIZE levels in the arena; NULL if the model is not set up.
#else
 * @return KWS_INPUT_SIZE values in the arena; NULL if the model is not set up.
#endif /* KWS_STATES */
 */
int8_t *kws_model_input(kws_model *model);

/**
#if KWS_STATES
 * Runs the model on its input and its states. After an error, the states are unchanged.
#else
 * Runs the model on its input.
#endif /* KWS_STATES */
 *
 * @param model A model that is set up.
#if KWS_STATES
 * @param posteriors Receives KWS_ANSWERS rows of KWS_N_LABELS scores, the oldest row first, as kws_detector_process
 *     takes them. They lie in the arena, and are valid until the next inference. After an error, `posteriors` is
 *     unchanged.
#else
 * @param posteriors Receives KWS_N_LABELS values, (q + 128) / 256 each. They lie in the arena, and are valid until the
 *     next inference. After an error, `posteriors` is unchanged.
#endif /* KWS_STATES */
 * @return KWS_OK, KWS_ERR_ARGUMENT, KWS_ERR_STATE, KWS_ERR_INVOKE, or the error of kws_model_init.
 */
kws_status kws_model_invoke(kws_model *model, const int8_t **posteriors);

#if KWS_TAUGHT
/**
 * Returns the second output, from which taught words are heard.
 *
 * @param model A model that is set up.
 * @return KWS_EMBEDDING_SIZE values of the latest inference, in the arena; NULL if the model is not set up.
 */
const int8_t *kws_model_embedding(kws_model *model);
#endif

/**
 * Returns how much of the arena is in use.
 *
 * @param model A model that is set up.
 * @return Bytes; 0 if the model is not set up.
 */
size_t kws_model_arena_used(const kws_model *model);

/** @return Bytes of flash of the model's flatbuffer. */
size_t kws_model_flash(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_MODEL_H_ */
