#include "kws_model.h"

#include <cstddef>
#include <cstdint>
#include <new>

#include "kws_model_data.h"
#include "kws_model_ops.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/schema/schema_generated.h"

// Where the arena lies: for example -DKWS_ARENA_ATTRIBUTE='__attribute__((section(".dtcm")))'.
#ifndef KWS_ARENA_ATTRIBUTE
#define KWS_ARENA_ATTRIBUTE
#endif

// -DKWS_STATIC_ARENA=0 leaves the static array out: the application gives its memory to kws_model_use_arena.
#ifndef KWS_STATIC_ARENA
#define KWS_STATIC_ARENA 1
#endif

namespace kws_tflm {
namespace {

using Resolver = MicroMutableOpResolver<kKwsModelOps>;
using Interpreter = MicroInterpreter;

#if KWS_STATIC_ARENA
alignas(16) KWS_ARENA_ATTRIBUTE std::uint8_t own_arena[KWS_ARENA_SIZE];
std::uint8_t *arena = own_arena;
std::size_t arena_size = sizeof own_arena;
#else
std::uint8_t *arena = nullptr;
std::size_t arena_size = 0;
#endif

// Less is not given to TFLM, which puts its own structures into it unasked.
constexpr std::size_t kLeastArena = 1024;

// In place, so that there is no constructor before main and no allocation.
alignas(Resolver) std::uint8_t resolver_memory[sizeof(Resolver)];
alignas(Interpreter) std::uint8_t interpreter_memory[sizeof(Interpreter)];
Interpreter *interpreter = nullptr;

template <typename Tensor>
bool is_int8_of(const Tensor *tensor, std::size_t size) {
    return tensor != nullptr && tensor->type == kTfLiteInt8 && tensor->bytes == size;
}

}  // namespace

extern "C" int kws_model_use_arena(void *memory, std::size_t size) {
    if (memory == nullptr || size < kLeastArena || size > SIZE_MAX / 2) {
        return KWS_ERR_ARGUMENT;
    }
    arena = static_cast<std::uint8_t *>(memory);
    arena_size = size;
    return KWS_OK;
}

extern "C" int kws_model_init(void) {
    if (interpreter != nullptr) {
        interpreter->~Interpreter();
        interpreter = nullptr;
    }
    if (arena == nullptr) {
        return KWS_ERR_ARENA;
    }
    const auto *const model = GetModel(kws_model_data);
    if (model->version() != kKwsModelSchema) {
        return KWS_ERR_SCHEMA;
    }
    auto *const resolver = new (resolver_memory) Resolver();
    if (kws_register_ops(*resolver) != kTfLiteOk) {
        return KWS_ERR_OPS;
    }
    auto *const made = new (interpreter_memory) Interpreter(model, *resolver, arena, arena_size);
    if (made->AllocateTensors() != kTfLiteOk) {
        MicroPrintf("kws: TFLM gave up with %u bytes of the arena taken; this model takes, by kernels: %s",
                    static_cast<unsigned>(made->arena_used_bytes()), kKwsArenaByKernels);
        return KWS_ERR_ARENA;
    }
    if (!is_int8_of(made->input(0), KWS_INPUT_SIZE) || !is_int8_of(made->output(0), KWS_N_LABELS)) {
        return KWS_ERR_TENSOR;
    }
    interpreter = made;
    return KWS_OK;
}

extern "C" int kws_model_reset(void) {
    return interpreter == nullptr ? KWS_ERR_STATE : interpreter->Reset() == kTfLiteOk ? KWS_OK : KWS_ERR_INVOKE;
}

extern "C" std::int8_t *kws_model_input(void) {
    return interpreter == nullptr ? nullptr : interpreter->input(0)->data.int8;
}

extern "C" int kws_model_invoke(const std::int8_t **posteriors) {
    if (posteriors == nullptr) {
        return KWS_ERR_ARGUMENT;
    }
    if (interpreter == nullptr) {
        return KWS_ERR_STATE;
    }
    if (interpreter->Invoke() != kTfLiteOk) {
        return KWS_ERR_INVOKE;
    }
    *posteriors = interpreter->output(0)->data.int8;
    return KWS_OK;
}

extern "C" std::size_t kws_model_arena_used(void) {
    return interpreter == nullptr ? 0 : interpreter->arena_used_bytes();
}

extern "C" std::size_t kws_model_size(void) { return kws_model_data_len; }

}  // namespace kws_tflm
