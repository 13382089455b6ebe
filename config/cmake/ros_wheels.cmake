# Makes ROS 2 from PyPI wheels usable by CMake; give it as -DCMAKE_PROJECT_INCLUDE=.../ros_wheels.cmake.
#
# The wheels of message packages export Python include folders of the machine that built them
# (/opt/python/...), and CMake refuses to generate with an include folder that does not exist.
if(CMAKE_VERSION VERSION_LESS 3.21)
  message(FATAL_ERROR "Building on ROS 2 wheels needs CMake 3.21 or newer (found ${CMAKE_VERSION}): pip install cmake")
endif()

function(_ros_wheels_drop_missing_includes)
  get_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    if(NOT target MATCHES "__rosidl_generator_py$")
      continue()
    endif()
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      if(NOT IS_ABSOLUTE "${folder}" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

if(NOT ROS_WHEELS_MENDED)  # once a build, though every project() includes this file
  set(ROS_WHEELS_MENDED TRUE)
  cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL _ros_wheels_drop_missing_includes)
endif()
