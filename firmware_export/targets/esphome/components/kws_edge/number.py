"""Number of the component: its sensitivity, 0 (hears least) to 1."""

import esphome.codegen as cg
import esphome.config_validation as cv
from esphome.components import number
from esphome.components.kws_edge import MODEL, KwsEdge, kws_edge_ns
from esphome.const import ENTITY_CATEGORY_CONFIG

CONF_KWS_EDGE_ID = "kws_edge_id"
CONF_SENSITIVITY = "sensitivity"

SensitivityNumber = kws_edge_ns.class_("SensitivityNumber", number.Number, cg.Component)


def _has_sensitivities(config):
    if MODEL["sensitivity"] is None:
        raise cv.Invalid(f"{MODEL['name']} was exported without sensitivities; leave this number out")
    return config


CONFIG_SCHEMA = cv.All(
    cv.Schema(
        {
            cv.GenerateID(CONF_KWS_EDGE_ID): cv.use_id(KwsEdge),
            cv.Required(CONF_SENSITIVITY): number.number_schema(
                SensitivityNumber, icon="mdi:ear-hearing", entity_category=ENTITY_CATEGORY_CONFIG
            ).extend(cv.COMPONENT_SCHEMA),
        }
    ),
    _has_sensitivities,
)


async def to_code(config):
    sensitivity, own = MODEL["sensitivity"], config[CONF_SENSITIVITY]
    var = await number.new_number(own, min_value=0, max_value=1, step=1 / sensitivity["steps"])
    await cg.register_component(var, own)
    await cg.register_parented(var, config[CONF_KWS_EDGE_ID])
    cg.add(var.set_initial_value(sensitivity["initial"]))
