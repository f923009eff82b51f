/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_model.h"

#include <cstddef>
#include <cstdint>
#if KWS_STATES
#include <cstring>
#endif /* KWS_STATES */
#include <new>

#include "kws_model_data.h"
#include "kws_model_ops.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace kws_tflm {
namespace {

using Interpreter = MicroInterpreter;
using Resolver = MicroMutableOpResolver<KWS_MODEL_OPS>;

constexpr std::uint32_t kSetUp = 0x6b77736du;  // kws_model.set_up: a value that memory does not hold by chance

// TFLM puts its own structures into the arena without a check, so a smaller arena is refused.
constexpr std::size_t kLeastArena = 1024;

// Constructed in place in a kws_model, so that nothing is constructed before main and nothing is allocated.
struct Objects {
    Objects(const Model *model, std::uint8_t *arena, std::size_t arena_size)
        : resolver(), registered(kws_register_ops(resolver)), interpreter(model, resolver, arena, arena_size) {}

    Resolver resolver;
    TfLiteStatus registered;
    Interpreter interpreter;
};
static_assert(sizeof(Objects) <= sizeof(kws_model::objects), "define a larger KWS_MODEL_OBJECT_BYTES for all files");
static_assert(alignof(Objects) <= alignof(kws_model), "TensorFlow Lite Micro's objects need a larger alignment");

template <typename Tensor>
bool is_int8_of(const Tensor *tensor, std::size_t size) {
    return tensor != nullptr && tensor->type == kTfLiteInt8 && tensor->bytes == size;
}

#if KWS_STATES
// Whether each state can be copied from the output that follows it, and all of them fit into a kws_model.
bool has_states(Interpreter &interpreter) {
    std::size_t total = 0;
    if (interpreter.inputs_size() != 1 + KWS_STATES || interpreter.outputs_size() != 1 + KWS_STATES) {
        return false;
    }
    for (std::size_t i = 1; i <= KWS_STATES; i++) {
        const auto *const before = interpreter.input(i);
        if (before == nullptr || !is_int8_of(before, before->bytes) ||
            !is_int8_of(interpreter.output(i), before->bytes)) {
            return false;
        }
        total += before->bytes;
    }
    return total == KWS_STATE_BYTES;
}

void clear_states(kws_model &handle, Interpreter &interpreter) {
    std::int8_t *state = handle.states;
    for (std::size_t i = 1; i <= KWS_STATES; i++) {
        const auto *const tensor = interpreter.input(i);
        std::memset(state, tensor->params.zero_point, tensor->bytes);
        state += tensor->bytes;
    }
}

// In the arena, a state may share its memory with anything that is computed after its last use. So all states are
// copied in before an inference, and all of their successors are copied out after it.
void copy_states_in(const kws_model &handle, Interpreter &interpreter) {
    const std::int8_t *state = handle.states;
    for (std::size_t i = 1; i <= KWS_STATES; i++) {
        auto *const tensor = interpreter.input(i);
        std::memcpy(tensor->data.int8, state, tensor->bytes);
        state += tensor->bytes;
    }
}

void copy_states_out(kws_model &handle, Interpreter &interpreter) {
    std::int8_t *state = handle.states;
    for (std::size_t i = 1; i <= KWS_STATES; i++) {
        const auto *const tensor = interpreter.output(i);
        std::memcpy(state, tensor->data.int8, tensor->bytes);
        state += tensor->bytes;
    }
}

#endif /* KWS_STATES */
kws_status start(kws_model &handle, std::uint8_t *arena, std::size_t arena_size) {
    const auto *const model = GetModel(kws_model_data);
    if (model->version() != kKwsModelSchema) {
        return KWS_ERR_SCHEMA;
    }
    auto *const made = new (handle.objects) Objects(model, arena, arena_size);
    Interpreter &interpreter = made->interpreter;
    if (made->registered != kTfLiteOk) {
        return KWS_ERR_OPS;
    }
    if (interpreter.AllocateTensors() != kTfLiteOk) {
        MicroPrintf("kws: TFLM gave up with %u bytes of the arena taken; this model takes, by kernels: %s",
                    static_cast<unsigned>(interpreter.arena_used_bytes()), kKwsArenaByKernels);
        return KWS_ERR_ARENA;
    }
#if KWS_STATES
    if (!is_int8_of(interpreter.input(0), KWS_INPUT_SIZE) ||
        !is_int8_of(interpreter.output(0), KWS_ANSWERS * KWS_N_LABELS) || !has_states(interpreter)) {
        return KWS_ERR_TENSOR;
    }
    clear_states(handle, interpreter);
#else
    if (!is_int8_of(interpreter.input(0), KWS_INPUT_SIZE) || !is_int8_of(interpreter.output(0), KWS_N_LABELS)) {
        return KWS_ERR_TENSOR;
    }
#if KWS_TAUGHT
    if (interpreter.outputs_size() != 2 || !is_int8_of(interpreter.output(1), KWS_EMBEDDING_SIZE)) {
        return KWS_ERR_TENSOR;
    }
#endif
#endif /* KWS_STATES */
    handle.interpreter = &interpreter;
    return KWS_OK;
}

kws_status status_of(const kws_model *model) {
    return model == nullptr ? KWS_ERR_ARGUMENT : model->set_up == kSetUp ? model->status : KWS_ERR_STATE;
}

Interpreter *interpreter_of(const kws_model *model) {
    return status_of(model) == KWS_OK ? static_cast<Interpreter *>(model->interpreter) : nullptr;
}

}  // namespace

extern "C" std::size_t kws_model_sizeof(void) { return sizeof(kws_model); }

extern "C" kws_status kws_model_deinit(kws_model *model) {
    if (model == nullptr) {
        return KWS_ERR_ARGUMENT;
    }
    if (Interpreter *const interpreter = interpreter_of(model)) {
        interpreter->~Interpreter();
    }
    model->set_up = 0;
    return KWS_OK;
}

extern "C" kws_status kws_model_init(kws_model *model, void *arena, std::size_t arena_size) {
    if (kws_model_deinit(model) != KWS_OK) {
        return KWS_ERR_ARGUMENT;
    }
    model->set_up = kSetUp;
    model->interpreter = nullptr;
    model->status = arena == nullptr || arena_size < kLeastArena || arena_size > SIZE_MAX / 2
                        ? KWS_ERR_ARGUMENT
                        : start(*model, static_cast<std::uint8_t *>(arena), arena_size);
    return model->status;
}

extern "C" kws_status kws_model_reset(kws_model *model) {
    Interpreter *const interpreter = interpreter_of(model);
#if KWS_STATES
    if (interpreter == nullptr) {
        return status_of(model);
    }
    clear_states(*model, *interpreter);
    return interpreter->Reset() == kTfLiteOk ? KWS_OK : KWS_ERR_INVOKE;
#else
    return interpreter == nullptr ? status_of(model) : interpreter->Reset() == kTfLiteOk ? KWS_OK : KWS_ERR_INVOKE;
#endif /* KWS_STATES */
}

extern "C" std::int8_t *kws_model_input(kws_model *model) {
    Interpreter *const interpreter = interpreter_of(model);
    return interpreter == nullptr ? nullptr : interpreter->input(0)->data.int8;
}

extern "C" kws_status kws_model_invoke(kws_model *model, const std::int8_t **posteriors) {
    if (posteriors == nullptr) {
        return KWS_ERR_ARGUMENT;
    }
    Interpreter *const interpreter = interpreter_of(model);
    if (interpreter == nullptr) {
        return status_of(model);
    }
#if KWS_STATES
    copy_states_in(*model, *interpreter);
#endif /* KWS_STATES */
    if (interpreter->Invoke() != kTfLiteOk) {
        return KWS_ERR_INVOKE;
    }
#if KWS_STATES
    copy_states_out(*model, *interpreter);
#endif /* KWS_STATES */
    *posteriors = interpreter->output(0)->data.int8;
    return KWS_OK;
}

#if KWS_TAUGHT
extern "C" const std::int8_t *kws_model_embedding(kws_model *model) {
    Interpreter *const interpreter = interpreter_of(model);
    return interpreter == nullptr ? nullptr : interpreter->output(1)->data.int8;
}
#endif

extern "C" std::size_t kws_model_arena_used(const kws_model *model) {
    const Interpreter *const interpreter = interpreter_of(model);
    return interpreter == nullptr ? 0 : interpreter->arena_used_bytes();
}

extern "C" std::size_t kws_model_flash(void) { return kws_model_data_len; }

}  // namespace kws_tflm
