// SPDX-License-Identifier: Apache-2.0
/// @file
/// @brief The sensitivity as a number of ESPHome's, which survives a restart.
#pragma once

#include "esphome/core/defines.h"
#include "kws_config.h"
#if defined(USE_NUMBER) && KWS_SENSITIVITY_STEPS

#include "esphome/components/number/number.h"
#include "esphome/core/component.h"
#include "esphome/core/preferences.h"

#include "kws_edge.h"

namespace esphome {
namespace kws_edge {

class SensitivityNumber : public number::Number, public Component, public Parented<KwsEdge> {
public:
    void setup() override;
    void dump_config() override;
    float get_setup_priority() const override { return setup_priority::HARDWARE; }

    /// The value without a stored one.
    void set_initial_value(float initial_value) { this->initial_value_ = initial_value; }

protected:
    void control(float value) override;
    void apply_(float value);

    float initial_value_{0.5f};
    ESPPreferenceObject pref_;
};

}  // namespace kws_edge
}  // namespace esphome

#endif
