import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("com.android.library")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "dev.filbert"
    compileSdk = 36

    defaultConfig {
        minSdk = 24
        consumerProguardFiles("consumer-rules.pro")
        ndk {
            abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
}

kotlin {
    explicitApi()
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_11)
    }
}

dependencies {
    // Beside Kotlin's own library, all that there is. `suspend` functions of the public API need it.
    api("org.jetbrains.kotlinx:kotlinx-coroutines-core:1.10.2")
}

// The native libraries, into src/main/jniLibs. Cargo does nothing where nothing has changed.
val nativeLibraries by tasks.registering(Exec::class) {
    description = "Builds libfilbert_jni.so for every ABI with cargo-ndk."
    workingDir = rootDir.parentFile
    commandLine("cargo", "xtask", "android", "--libraries")
}

tasks.named("preBuild") { dependsOn(nativeLibraries) }
