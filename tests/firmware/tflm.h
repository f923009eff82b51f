/* SPDX-License-Identifier: Apache-2.0 */
// Declarations of what kws_model.cc uses of TensorFlow Lite Micro: for checking that it compiles, not for running it.
#ifndef TFLM_H_
#define TFLM_H_

#include <cstddef>
#include <cstdint>

namespace tflite {
struct Model {
    std::uint32_t version() const;
};
const Model *GetModel(const void *buffer);
}  // namespace tflite

OPENING

enum TfLiteStatus { kTfLiteOk, kTfLiteError };
enum TfLiteType { kTfLiteInt8 };
union TfLitePtrUnion {
    std::int8_t *int8;
};
struct TfLiteQuantizationParams {
    std::int32_t zero_point;
};
struct TfLiteTensor {
    TfLiteType type;
    TfLitePtrUnion data;
    TfLiteQuantizationParams params;
    std::size_t bytes;
};

void MicroPrintf(const char *format, ...);

class MicroOpResolver {};

template <unsigned int count>
class MicroMutableOpResolver : public MicroOpResolver {
public:
    TfLiteStatus AddAdd() { return kTfLiteOk; }
    TfLiteStatus AddAveragePool2D() { return kTfLiteOk; }
    TfLiteStatus AddQuantize() { return kTfLiteOk; }
    TfLiteStatus AddConcatenation() { return kTfLiteOk; }
    TfLiteStatus AddConv2D() { return kTfLiteOk; }
    TfLiteStatus AddDepthwiseConv2D() { return kTfLiteOk; }
    TfLiteStatus AddFullyConnected() { return kTfLiteOk; }
    TfLiteStatus AddMean() { return kTfLiteOk; }
    TfLiteStatus AddReshape() { return kTfLiteOk; }
    TfLiteStatus AddSoftmax() { return kTfLiteOk; }
    TfLiteStatus AddStridedSlice() { return kTfLiteOk; }
};

class MicroInterpreter {
public:
    MicroInterpreter(const tflite::Model *model, const MicroOpResolver &resolver, std::uint8_t *arena,
                     std::size_t size);
    ~MicroInterpreter();
    TfLiteStatus AllocateTensors();
    TfLiteStatus Invoke();
    TfLiteStatus Reset();
    TfLiteTensor *input(std::size_t index);
    TfLiteTensor *output(std::size_t index);
    std::size_t inputs_size() const;
    std::size_t outputs_size() const;
    std::size_t arena_used_bytes() const;
};

CLOSING

#endif  // TFLM_H_
