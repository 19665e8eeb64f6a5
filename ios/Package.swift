// swift-tools-version:6.0
import PackageDescription

// On Apple's systems the C library is an XCFramework, which `cargo xtask ios` puts here. Elsewhere
// it is libfilbert.a, in a folder that is named with -Xlinker -L: see test-on-linux.
#if os(Linux)
let library = Target.systemLibrary(name: "CFilbert")
#else
let library = Target.binaryTarget(name: "CFilbert", path: "CFilbert.xcframework")
#endif

let package = Package(
    name: "Filbert",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "Filbert", targets: ["Filbert"])],
    targets: [
        library,
        .target(
            name: "Filbert",
            dependencies: ["CFilbert"],
            resources: [.copy("PrivacyInfo.xcprivacy")],
            linkerSettings: [
                .linkedLibrary("filbert", .when(platforms: [.linux])),
                .linkedLibrary("m", .when(platforms: [.linux])),
            ]
        ),
        .testTarget(name: "FilbertTests", dependencies: ["Filbert"]),
    ],
    swiftLanguageModes: [.v6]
)
