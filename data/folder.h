// Folders of image files: .jpg, .jpeg, .png, in either case.
//
//   folder:DIR                a folder for each class, as torchvision's ImageFolder has it: labels
//                             count the class folders in alphabetical (byte) order; folders below
//                             a class belong to it, links are followed; files come by class, then
//                             folder, then name. Of ImageNet's train these are the labels 0..999.
//   folder:DIR                no folders but images, as ImageNet's official validation set: labels
//                             come from a file in DIR or its parent, the first of kLabelFiles
//   folder:DIR,labels=FILE    the same with labels from FILE
//
// A file of labels is one of (told apart by what stands in it, "#" and blank lines left out)
//   NAME LABEL       for each image; labels count from 0 (Caffe's val.txt)
//   NAME,SYNSET ...  for each image, after the line ImageId,PredictionString (Kaggle's
//                    LOC_val_solution.csv); the synset is the first word
//   SYNSET           one line for each image in the order of the numbers in the images' names,
//                    ILSVRC2012_val_00000001.JPEG being the first line (TensorFlow's
//                    imagenet_2012_validation_synset_labels.txt)
//   ID               likewise, ILSVRC2012_ID 1..1000 (the devkit's ground truth). These ids are not
//                    in the order of the synsets: map_clsloc.txt (lines SYNSET ID NAME, from the
//                    devkits of 2014 on) must lie beside the file, or nothing is read
// Synsets become labels by their order: they must be the 1000 of ImageNet, no fewer.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/records.h"

namespace tunas::data {

inline constexpr const char* kLabelFiles[] = {"val.txt", "LOC_val_solution.csv",
                                              "imagenet_2012_validation_synset_labels.txt",
                                              "ILSVRC2012_validation_ground_truth.txt"};

/// Of images by name, or by the number in their name.
struct ImageLabels {
  std::map<std::string, std::int32_t, std::less<>> by_name;
  std::vector<std::int32_t> by_number;  // image 1 first
};

/// `map` is the text of map_clsloc.txt, empty where there is none. Error(data) naming `path` and
/// the line for what is none of the above, and for ids without a map.
ImageLabels parse_labels(std::string_view text, std::string_view map, const std::string& path);

/// ILSVRC2012_ID -> label, from lines SYNSET ID NAME: each of 1000 ids and synsets once.
std::vector<std::int32_t> parse_id_map(std::string_view text, const std::string& path);

/// `rest` is what stands behind "folder:". Files are opened when they are read. Error(data) for a
/// folder without images, a class without images, an image without label, and files that
/// ImageFolder would read and this program cannot (.webp, .bmp, .tif, ...).
Records open_folder(const std::string& rest);

}  // namespace tunas::data
