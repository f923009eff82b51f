/* SPDX-License-Identifier: Apache-2.0 */
// Runs no model: hands all tensors to whoever loads this, who has TensorFlow Lite Micro's own interpreter. As in a real
// arena, outputs may lie where inputs were: here all do.
#include <cstring>

#include "tensorflow/lite/micro/micro_interpreter.h"

extern "C" {
typedef int (*bridge_function)(std::int8_t *const *inputs, std::int8_t *const *outputs);
void bridge_set(bridge_function function, std::size_t inputs, std::size_t outputs);
void bridge_tensor(bool output, std::size_t index, std::size_t bytes, int zero_point);
}

namespace {

constexpr std::size_t kMost = 64, kBytes = 1 << 17;

struct Side {
    std::size_t count;
    tflite::TfLiteTensor tensors[kMost];
    std::int8_t *places[kMost];
} sides[2];

std::int8_t arena[kBytes];
bridge_function run;

}  // namespace

extern "C" void bridge_set(bridge_function function, std::size_t inputs, std::size_t outputs) {
    run = function;
    sides[0].count = inputs;
    sides[1].count = outputs;
}

extern "C" void bridge_tensor(bool output, std::size_t index, std::size_t bytes, int zero_point) {
    Side &side = sides[output];
    std::int8_t *const place = index == 0 ? arena : side.places[index - 1] + side.tensors[index - 1].bytes;
    side.places[index] = place;
    side.tensors[index] = {tflite::kTfLiteInt8, {place}, {zero_point}, bytes};
}

namespace tflite {

const Model *GetModel(const void *buffer) { return static_cast<const Model *>(buffer); }
std::uint32_t Model::version() const { return 3; }
void MicroPrintf(const char *, ...) {}

MicroInterpreter::MicroInterpreter(const Model *, const MicroOpResolver &, std::uint8_t *, std::size_t) {}
MicroInterpreter::~MicroInterpreter() {}
TfLiteStatus MicroInterpreter::AllocateTensors() { return run == nullptr ? kTfLiteError : kTfLiteOk; }
TfLiteStatus MicroInterpreter::Reset() {
    std::memset(arena, 0x55, sizeof arena);  // nothing is kept in it
    return kTfLiteOk;
}
TfLiteTensor *MicroInterpreter::input(std::size_t index) { return &sides[0].tensors[index]; }
TfLiteTensor *MicroInterpreter::output(std::size_t index) { return &sides[1].tensors[index]; }
std::size_t MicroInterpreter::inputs_size() const { return sides[0].count; }
std::size_t MicroInterpreter::outputs_size() const { return sides[1].count; }
std::size_t MicroInterpreter::arena_used_bytes() const { return 1; }
TfLiteStatus MicroInterpreter::Invoke() {
    return run(sides[0].places, sides[1].places) == 0 ? kTfLiteOk : kTfLiteError;
}

}  // namespace tflite
