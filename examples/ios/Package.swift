// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "SortalSample",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [.library(name: "SortalSample", targets: ["SortalSample"])],
    targets: [
        .target(name: "SortalSample"),
        .testTarget(name: "SortalSampleTests", dependencies: ["SortalSample"], resources: [.process("Resources")]),
    ]
)
