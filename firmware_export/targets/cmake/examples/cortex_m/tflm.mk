# SPDX-License-Identifier: Apache-2.0
# TensorFlow Lite Micro's sources for this model, compiled from a checkout (TFLM=PATH) with the kernels of KERNELS.
#
# Third parties are found where TensorFlow Lite Micro's own Makefile downloads them, or beside the checkout. You can also
# give each one: FLATBUFFERS=, GEMMLOWP=, RUY=, CMSIS_NN=.

DOWNLOADS = $(TFLM)/tensorflow/lite/micro/tools/make/downloads
# $(call third_party,a file in it,names,variable): the first folder that has the file.
third_party = $(or $(patsubst %/$1,%,$(firstword $(wildcard $(foreach name,$2,$(DOWNLOADS)/$(name)/$1 $(TFLM)/../$(name)/$1)))), \
	$(error TFLM=$(TFLM): no $1 in a folder $(firstword $2) beside it or in tools/make/downloads; give $3=))

LITE = $(TFLM)/tensorflow/lite
$(if $(wildcard $(LITE)/micro/micro_interpreter.h),,$(error TFLM=$(TFLM) is no checkout of TensorFlow Lite Micro, \
	seen from $(CURDIR)))
FLATBUFFERS ?= $(call third_party,include/flatbuffers/base.h,flatbuffers,FLATBUFFERS)
GEMMLOWP ?= $(call third_party,fixedpoint/fixedpoint.h,gemmlowp,GEMMLOWP)
RUY ?= $(call third_party,ruy/profiler/instrumentation.h,ruy,RUY)
FLATBUFFERS := $(FLATBUFFERS)
GEMMLOWP := $(GEMMLOWP)
RUY := $(RUY)

# The kernels that this model's resolver registers (kernels/NAME.cc), and the code they share with optimised kernels.
KERNEL_NAMES = @KERNEL_SOURCES@

TFLM_FLAGS = -DTF_LITE_STATIC_MEMORY -DNDEBUG -isystem $(TFLM) -isystem $(FLATBUFFERS)/include -isystem $(GEMMLOWP) \
	-isystem $(RUY)
TFLM_CORE = $(filter-out %_test.cc %/mock_micro_graph.cc %/fake_micro_context.cc %/test_helpers.cc \
	%/test_helper_custom_ops.cc %/hexdump.cc %/recording_micro_allocator.cc, \
	$(foreach folder,micro micro/arena_allocator micro/memory_planner micro/tflite_bridge core/api core/c kernels \
	kernels/internal, $(wildcard $(LITE)/$(folder)/*.cc))) \
	$(wildcard $(LITE)/../compiler/mlir/lite/*/*.cc $(LITE)/../compiler/mlir/lite/core/api/*.cc)
TFLM_KERNELS = $(wildcard $(LITE)/micro/kernels/kernel_util.cc $(foreach name,$(KERNEL_NAMES), \
	$(LITE)/micro/kernels/$(name)_common.cc \
	$(or $(wildcard $(KERNEL_FOLDER)/$(name).cc),$(LITE)/micro/kernels/$(name).cc)))

ifeq ($(KERNELS),cmsis-nn)
CMSIS_NN ?= $(call third_party,Include/arm_nnfunctions.h,cmsis_nn CMSIS-NN,CMSIS_NN)
CMSIS_NN := $(CMSIS_NN)
KERNEL_FOLDER = $(LITE)/micro/kernels/cmsis_nn
KERNEL_FLAGS = -DCMSIS_NN -DKERNELS_OPTIMIZED_FOR_SPEED -isystem $(CMSIS_NN) -isystem $(CMSIS_NN)/Include
CMSIS_NN_SOURCES = $(filter-out %_f16.c %_f32.c %_flt.c,$(wildcard $(CMSIS_NN)/Source/*/*.c))
else ifneq ($(KERNELS),reference)
$(error KERNELS=$(KERNELS): there are reference and cmsis-nn)
endif

# TensorFlow Lite Micro's own Makefile optimises in the same way: kernels for speed, the rest for size. Its warnings are
# switched off.
TFLM_BUILD = tflm-$(CORE)
CORE_OBJECTS = $(patsubst $(TFLM)/%,$(TFLM_BUILD)/%.o,$(TFLM_CORE))
KERNEL_OBJECTS = $(patsubst $(TFLM)/%,$(BUILD)/kernels/%.o,$(TFLM_KERNELS))
CMSIS_NN_OBJECTS = $(patsubst $(CMSIS_NN)/%,$(BUILD)/cmsis_nn/%.o,$(CMSIS_NN_SOURCES))
TFLM_OBJECTS = $(CORE_OBJECTS) $(KERNEL_OBJECTS) $(CMSIS_NN_OBJECTS)
TFLM_TARGET = $(TARGET) -w
TFLM_CXX = arm-none-eabi-g++ $(TFLM_TARGET) -std=c++17 -fno-exceptions -fno-rtti -fno-threadsafe-statics $(TFLM_FLAGS)
$(call stamp,$(TFLM_BUILD)/settings,$(TFLM_CXX))

$(CORE_OBJECTS): $(TFLM_BUILD)/%.o: $(TFLM)/% $(TFLM_BUILD)/settings
	@mkdir -p $(@D)
	$(TFLM_CXX) -Os -c $< -o $@

$(KERNEL_OBJECTS): $(BUILD)/kernels/%.o: $(TFLM)/% $(BUILD)/settings
	@mkdir -p $(@D)
	$(TFLM_CXX) $(KERNEL_FLAGS) -c $< -o $@

$(CMSIS_NN_OBJECTS): $(BUILD)/cmsis_nn/%.o: $(CMSIS_NN)/% $(BUILD)/settings
	@mkdir -p $(@D)
	arm-none-eabi-gcc $(TFLM_TARGET) -std=c11 $(KERNEL_FLAGS) -c $< -o $@
