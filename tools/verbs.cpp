#include "tools/verb.h"

namespace tunas::tools {

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> all = {
      space_list_verb(),   space_show_verb(), space_count_verb(),
      space_sample_verb(), arch_show_verb(),  arch_export_verb(),
      cost_verb(),         search_verb(),     train_verb(),
      eval_verb(),         import_verb(),     export_verb(),
      data_index_verb(),   data_check_verb(), data_pack_verb(),
      data_stats_verb(),   data_bench_verb(), latency_measure_verb(),
      launch_verb(),       profile_verb(),    doctor_verb()};
  return all;
}

}  // namespace tunas::tools
