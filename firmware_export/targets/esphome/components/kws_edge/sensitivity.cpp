// SPDX-License-Identifier: Apache-2.0
#include "sensitivity.h"

#if defined(USE_NUMBER) && KWS_SENSITIVITY_STEPS

#include "esphome/core/log.h"
#include "esphome/core/version.h"

namespace esphome {
namespace kws_edge {

static const char *const TAG = "kws_edge.number";

void SensitivityNumber::setup() {
    float value = this->initial_value_;
#if ESPHOME_VERSION_CODE >= VERSION_CODE(2026, 7, 0)
    this->pref_ = this->make_entity_preference<float>();
#else
    this->pref_ = global_preferences->make_preference<float>(this->get_preference_hash());
#endif
    if (this->pref_.load(&value) && !(value >= 0.0f && value <= 1.0f)) {
        value = this->initial_value_;
    }
    this->apply_(value);
}

void SensitivityNumber::dump_config() { LOG_NUMBER("", "Sensitivity", this); }

void SensitivityNumber::control(float value) {
    this->apply_(value);
    this->pref_.save(&value);
}

void SensitivityNumber::apply_(float value) {
    this->parent_->set_sensitivity(value);
    this->publish_state(value);
}

}  // namespace kws_edge
}  // namespace esphome

#endif
